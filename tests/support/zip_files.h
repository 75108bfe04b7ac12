#pragma once

#include <string>
#include <utility>
#include <vector>

namespace brim::test {

/// A zip archive of uncompressed members (name, content) without checksums.
std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& members);

}  // namespace brim::test
