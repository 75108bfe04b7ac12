#include "file_lock.h"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace brim::detail {
namespace {

struct flock range(std::int64_t byte, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

}  // namespace

bool lock_byte(const PosixFile& file, std::int64_t byte, LockKind kind, int timeout_ms) {
  struct flock lock = range(byte, kind == LockKind::Shared ? F_RDLCK : F_WRLCK);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EINTR && errno != EAGAIN && errno != EACCES) return false;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

void unlock_byte(const PosixFile& file, std::int64_t byte) {
  struct flock lock = range(byte, F_UNLCK);
  ::fcntl(file.get(), F_OFD_SETLK, &lock);
}

bool byte_is_locked(const PosixFile& file, std::int64_t byte) {
  struct flock lock = range(byte, F_WRLCK);
  return ::fcntl(file.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace brim::detail
