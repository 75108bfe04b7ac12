#pragma once

#include <map>
#include <string>
#include <vector>

namespace brim::test {

/// Rows of a tab-separated file with a heading: column name -> text.
std::vector<std::map<std::string, std::string>> read_tsv(const std::string& path);

}  // namespace brim::test
