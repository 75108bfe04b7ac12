#include "posix_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "brim/cache/error.h"

namespace brim::detail {

PosixFile::PosixFile(PosixFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

PosixFile::~PosixFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool PosixFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(descriptor_, out.data() + done, out.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

void PosixFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes,
                         const std::string& what) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) throw_errno("cannot write " + what);
    done += static_cast<std::size_t>(put);
  }
}

std::uint64_t PosixFile::size() const {
  struct stat info {};
  return ::fstat(descriptor_, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

std::int64_t PosixFile::allocated_bytes() const {
  struct stat info {};
  return ::fstat(descriptor_, &info) == 0 ? static_cast<std::int64_t>(info.st_blocks) * 512 : 0;
}

PosixFile open_file(const std::string& path, int flags) {
  return PosixFile(::open(path.c_str(), flags | O_CLOEXEC, 0666));
}

bool lock_file(const PosixFile& file, LockKind kind, int timeout_ms) {
  const int operation = (kind == LockKind::Shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (::flock(file.get(), operation) != 0) {
    if (errno != EINTR && errno != EWOULDBLOCK) return false;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

void unlock_file(const PosixFile& file) {
  ::flock(file.get(), LOCK_UN);
}

void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void make_cache_directory(const std::string& directory) {
  const std::string hint = "name a folder you may write to with loader.cache_dir";
  if (directory.empty())
    throw Error("no folder for the cache is given", {.key = "loader.cache_dir"}, hint);
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (!std::filesystem::is_directory(directory))
    throw Error("cannot make the cache folder '" + directory +
                    "': " + (error ? error.message() : std::string("it is no folder")),
                {.key = "loader.cache_dir"}, hint);
}

std::int64_t free_disk_bytes(const std::string& directory) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0) return 0;
  return static_cast<std::int64_t>(info.f_bavail) * static_cast<std::int64_t>(info.f_frsize);
}

}  // namespace brim::detail
