#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace brim::detail {

/// An open file descriptor, closed at the end. Reads and writes are complete or fail.
class PosixFile {
 public:
  PosixFile() = default;
  explicit PosixFile(int descriptor) : descriptor_(descriptor) {}
  PosixFile(PosixFile&& other) noexcept;
  PosixFile& operator=(PosixFile&& other) noexcept;
  ~PosixFile();

  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

  /// True when all of `out` was read.
  bool read_at(std::uint64_t offset, std::span<std::byte> out) const;
  /// Throws std::system_error; `what` names the file.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes,
                const std::string& what) const;
  std::uint64_t size() const;
  std::int64_t allocated_bytes() const;

 private:
  int descriptor_ = -1;
};

/// open(2) with O_CLOEXEC; an empty file object when that fails, errno says why.
PosixFile open_file(const std::string& path, int flags);

enum class LockKind { Shared, Exclusive };

/// Tries an flock for up to `timeout_ms`; false when another process keeps it that long.
bool lock_file(const PosixFile& file, LockKind kind, int timeout_ms);
void unlock_file(const PosixFile& file);

[[noreturn]] void throw_errno(const std::string& what);

/// Makes `directory` and its parents; throws Error (key loader.cache_dir) when that cannot be.
void make_cache_directory(const std::string& directory);

/// Bytes that this process may still write to the file system of `directory`; 0 when unknown.
std::int64_t free_disk_bytes(const std::string& directory);

}  // namespace brim::detail
