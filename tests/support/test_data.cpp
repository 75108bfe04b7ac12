#include "support/test_data.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace brim::test {
namespace fs = std::filesystem;

std::optional<std::string> test_data(const std::string& relative) {
  const char* variable = std::getenv("BRIM_TEST_DATA");
  const fs::path root = variable != nullptr && *variable != '\0'
                            ? fs::path(variable)
                            : fs::path(source_dir()).parent_path() / "shared";
  const fs::path path = root / relative;
  if (!fs::exists(path)) return std::nullopt;
  return path.string();
}

std::uint64_t number_of(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::string source_dir() {
  return BRIM_SOURCE_DIR;
}

TempDir::TempDir() {
  std::string name = (fs::temp_directory_path() / "brim-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void write_file(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream out(path, std::ios::binary);
  if (!(out << text).flush()) throw std::runtime_error("cannot write " + path);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace brim::test
