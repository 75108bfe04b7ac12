#include "support/zip_files.h"

#include <cstdint>

namespace brim::test {
namespace {

std::string number(std::uint64_t value, unsigned width) {
  std::string text;
  for (unsigned i = 0; i < width; ++i) text += static_cast<char>(value >> (8 * i) & 0xFFU);
  return text;
}

}  // namespace

std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string archive, directory;
  for (const auto& [name, content] : members) {
    // Version, flags, method, time, date, checksum, both sizes, length of name, of extra field.
    const std::string common = number(0, 2 * 5 + 4) + number(content.size(), 4) +
                               number(content.size(), 4) + number(name.size(), 2) + number(0, 2);
    directory +=
        "PK\x01\x02" + number(0, 2) + common + number(0, 10) + number(archive.size(), 4) + name;
    archive += "PK\x03\x04" + common + name + content;
  }
  const std::size_t start = archive.size();
  return archive + directory + "PK\x05\x06" + number(0, 4) + number(members.size(), 2) +
         number(members.size(), 2) + number(directory.size(), 4) + number(start, 4) + number(0, 2);
}

}  // namespace brim::test
