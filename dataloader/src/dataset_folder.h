#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

namespace brim::detail {

/// Asks for files relative to an open folder, so that the system walks a long path once per folder
/// and not once per file. Keeps the folder it was asked for last; one per thread.
class FolderStat {
 public:
  FolderStat() = default;
  ~FolderStat();
  FolderStat(const FolderStat&) = delete;
  FolderStat& operator=(const FolderStat&) = delete;

  /// As stat() of `folder`/`name`; an empty folder is the working one.
  bool look_up(const std::string& folder, const std::string& name, struct stat& status);

 private:
  std::string folder_{};
  int descriptor_ = -1;
};

std::int64_t mtime_ns(const struct stat& status);

}  // namespace brim::detail
