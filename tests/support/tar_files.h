#pragma once

#include <string>
#include <utility>
#include <vector>

namespace brim::test {

using TarFiles = std::vector<std::pair<std::string, std::string>>;  ///< name, content

/// One ustar member (header, content, padding) with a right checksum.
std::string tar_member(const std::string& name, const std::string& content, char type = '0');
/// A whole archive, closing blocks included.
std::string tar_archive(const TarFiles& files);

}  // namespace brim::test
