#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace brim::test {

/// `$BRIM_TEST_DATA/<relative>` where it exists (default of the variable: ../shared beside the
/// source tree).
std::optional<std::string> test_data(const std::string& relative);

/// The number in the environment `variable`, by which campaigns are made larger; else `otherwise`.
std::uint64_t number_of(const char* variable, std::uint64_t otherwise);

/// Root of the source tree.
std::string source_dir();

/// A folder of its own, removed with everything in it at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Writes `text` to `path`, making its folders.
void write_file(const std::string& path, const std::string& text);
std::string read_file(const std::string& path);

}  // namespace brim::test

/// Sets `name` to the path of test data, or skips the test by name with the reason.
#define BRIM_TEST_DATA_OR_SKIP(name, relative)                                                \
  const auto name##_found = ::brim::test::test_data(relative);                                \
  if (!name##_found)                                                                          \
    GTEST_SKIP() << "no test data '" << (relative) << "' (set BRIM_TEST_DATA to its folder)"; \
  const std::string name = *name##_found
