#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace brim::detail {

/// Puts a file in place in one step, making its folders. Throws Error.
void write_whole_file(const std::string& path, std::string_view bytes);

/// True if `path` is a JPEG file that has its end marker.
bool is_complete_jpeg(const std::string& path);

/// The folder of a composed set: held by one process at a time, bound to the settings it was begun
/// with, which lie in `compose.txt`.
class ComposeFolder {
 public:
  /// Throws Error where the folder holds a set of other settings or a larger one, holds other
  /// things, cannot be written, or another process is at work in it.
  ComposeFolder(const std::string& folder, const std::string& settings, std::int64_t images);
  ~ComposeFolder();
  ComposeFolder(const ComposeFolder&) = delete;
  ComposeFolder& operator=(const ComposeFolder&) = delete;
  void mark_finished();

 private:
  void write(const char* state) const;
  std::string file_;
  std::string settings_;
  std::int64_t images_;
  int lock_ = -1;
};

}  // namespace brim::detail
