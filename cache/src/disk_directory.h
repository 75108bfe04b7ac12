#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "posix_file.h"

namespace brim::detail {

/// The folder of a disk cache: its segment files, the lock that processes take to create or
/// extend one, and the cap on what all of them hold together.
class DiskDirectory {
 public:
  /// Makes the folder where it is absent; throws Error when it cannot be used at all. A folder
  /// that may only be read is fine: writable() is false then and `why_not` says why.
  DiskDirectory(const std::string& path, std::int64_t byte_limit);

  /// The folder's lock, held for the moments of creating or extending a segment.
  class Lock {
   public:
    explicit Lock(const DiskDirectory& directory);
    ~Lock();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    explicit operator bool() const { return held_; }

   private:
    const PosixFile& file_;
    bool held_;
  };

  std::vector<std::string> segment_paths() const;
  /// Bytes of disk that all segments occupy, those of other processes and versions too.
  std::int64_t used_bytes() const;
  std::int64_t byte_limit() const { return byte_limit_; }
  bool writable() const { return static_cast<bool>(lock_file_); }
  const std::string& why_not() const { return why_not_; }
  const std::string& path() const { return path_; }

 private:
  void remove_leftovers() const;

  std::string path_;
  PosixFile lock_file_;
  std::string why_not_;
  std::int64_t byte_limit_;
};

}  // namespace brim::detail
