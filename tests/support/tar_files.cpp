#include "support/tar_files.h"

#include <cstdio>

namespace brim::test {

std::string tar_member(const std::string& name, const std::string& content, char type) {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  char size[13];
  std::snprintf(size, sizeof size, "%011zo", content.size());
  header.replace(124, 11, size);
  header.replace(148, 8, "        ");
  header[156] = type;
  header.replace(257, 8, std::string("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  char text[9];
  std::snprintf(text, sizeof text, "%06o", sum);
  header.replace(148, 7, std::string(text, 6) + '\0');
  return header + content + std::string((512 - content.size() % 512) % 512, '\0');
}

std::string tar_archive(const TarFiles& files) {
  std::string archive;
  for (const auto& [name, content] : files) archive += tar_member(name, content);
  return archive + std::string(1024, '\0');
}

}  // namespace brim::test
