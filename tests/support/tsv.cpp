#include "support/tsv.h"

#include <fstream>
#include <stdexcept>

namespace brim::test {
namespace {

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> cells(1);
  for (const char c : line) {
    if (c == '\t') {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  return cells;
}

}  // namespace

std::vector<std::map<std::string, std::string>> read_tsv(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) throw std::runtime_error("no heading in " + path);
  const std::vector<std::string> heading = split(line);
  std::vector<std::map<std::string, std::string>> rows;
  while (std::getline(in, line)) {
    const std::vector<std::string> cells = split(line);
    for (auto& row = rows.emplace_back(); const std::string& name : heading) {
      const std::size_t i = static_cast<std::size_t>(&name - heading.data());
      row[name] = i < cells.size() ? cells[i] : std::string();
    }
  }
  return rows;
}

}  // namespace brim::test
