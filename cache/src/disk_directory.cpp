#include "disk_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace brim::detail {
namespace fs = std::filesystem;
namespace {

/// A lock is held for microseconds; who waits longer than this faces a stopped process.
constexpr int kLockTimeoutMs = 250;
/// Share of the free space that a cache without a limit of its own may take.
constexpr double kFreeShare = 0.9;

std::vector<std::string> files_named(const std::string& directory, const std::string& prefix) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".brim")) paths.push_back(at->path().string());
  }
  return paths;
}

}  // namespace

DiskDirectory::DiskDirectory(const std::string& path, std::int64_t byte_limit)
    : path_(path), byte_limit_(byte_limit) {
  make_cache_directory(path_);
  lock_file_ = open_file(path_ + "/lock", O_RDWR | O_CREAT);
  if (!lock_file_ || ::access(path_.c_str(), W_OK) != 0) {
    why_not_ = "cannot write to " + path_ + ": " + std::strerror(errno);
    lock_file_ = PosixFile();
  }
  if (byte_limit_ <= 0)
    byte_limit_ = used_bytes() + static_cast<std::int64_t>(
                                     kFreeShare * static_cast<double>(free_disk_bytes(path_)));
  if (writable()) remove_leftovers();
}

DiskDirectory::Lock::Lock(const DiskDirectory& directory)
    : file_(directory.lock_file_), held_(lock_file(file_, LockKind::Exclusive, kLockTimeoutMs)) {}

DiskDirectory::Lock::~Lock() {
  if (held_) unlock_file(file_);
}

std::vector<std::string> DiskDirectory::segment_paths() const {
  return files_named(path_, "segment-");
}

std::int64_t DiskDirectory::used_bytes() const {
  std::int64_t bytes = 0;
  for (const std::string& file : segment_paths()) {
    struct stat info {};
    if (::stat(file.c_str(), &info) == 0) bytes += static_cast<std::int64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

/// A process that died while making a segment leaves it under its temporary name.
void DiskDirectory::remove_leftovers() const {
  const Lock lock(*this);
  if (!lock) return;
  for (const std::string& file : files_named(path_, "new-segment-")) ::unlink(file.c_str());
}

}  // namespace brim::detail
