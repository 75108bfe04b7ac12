#include "ram_share.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>

#include "brim/cache/key.h"
#include "file_lock.h"

namespace brim::detail {
namespace fs = std::filesystem;
namespace {

/// Bytes of the register that are locked: while it is read or changed, and while it is used.
constexpr std::int64_t kChangeByte = 0;
constexpr std::int64_t kUseByte = 1;
/// The register is held for the microseconds of a join; longer means a stopped process.
constexpr int kJoinTimeoutMs = 2000;
constexpr std::size_t kMostRecords = 256;

std::string register_directory() {
  return ::access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

std::string register_prefix() {
  return "brim-" + std::to_string(::getuid()) + "-";
}

std::uint64_t inode_of(const PosixFile& file) {
  struct stat info {};
  return ::fstat(file.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_ino) : 0;
}

/// False where somebody removed the file after it was opened.
bool still_named(const PosixFile& file, const std::string& path) {
  struct stat named {};
  return ::stat(path.c_str(), &named) == 0 &&
         static_cast<std::uint64_t>(named.st_ino) == inode_of(file);
}

std::string errno_text(const std::string& what) {
  return what + ": " + std::strerror(errno);
}

}  // namespace

bool RamShare::open_register(const std::string& name, std::string& why_not) {
  char hash[24];
  std::snprintf(hash, sizeof hash, "%016llx",
                static_cast<unsigned long long>(checksum64(std::as_bytes(std::span(name)))));
  path_ = register_directory() + "/" + register_prefix() + hash;
  for (int attempt = 0; attempt < 100; ++attempt) {
    register_ = PosixFile(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!register_) {
      why_not = errno_text("cannot open " + path_);
      return false;
    }
    struct stat info {};
    if (::fstat(register_.get(), &info) != 0 || info.st_uid != ::getuid()) {
      why_not = path_ + " belongs to another user";
      return false;
    }
    if (!lock_byte(register_, kChangeByte, LockKind::Exclusive, kJoinTimeoutMs)) {
      why_not = path_ + " is locked by a process that does not go on";
      return false;
    }
    if (still_named(register_, path_)) return true;
  }
  why_not = path_ + " keeps being removed";
  return false;
}

bool RamShare::find_memory(const Check& check) {
  const std::size_t count = register_.size() / sizeof(Record);
  std::vector<Record> records(std::min(count, kMostRecords));
  if (!register_.read_at(0, std::as_writable_bytes(std::span(records)))) return false;
  for (const Record& record : records) {
    const std::string path =
        "/proc/" + std::to_string(record.pid) + "/fd/" + std::to_string(record.descriptor);
    PosixFile memory = open_file(path, O_RDWR);
    // A process of the same number may have opened something else there since.
    if (!memory || inode_of(memory) != record.inode || record.inode == 0) continue;
    if (!memory_ && check(memory)) memory_ = std::move(memory);
    others_.push_back(record);
  }
  return static_cast<bool>(memory_);
}

bool RamShare::make_memory(const Found& found, std::string& why_not) {
  memory_ = PosixFile(::memfd_create("brim-cache", MFD_CLOEXEC));
  if (!memory_) {
    why_not = errno_text("cannot make shared memory");
    return false;
  }
  if (!found(memory_)) {
    why_not = errno_text("cannot allocate shared memory");
    return false;
  }
  return true;
}

/// Under kChangeByte: the living others and this process.
void RamShare::write_records() {
  std::vector<Record> records = others_;
  if (memory_)
    records.push_back({.pid = owner_pid_, .descriptor = memory_.get(), .inode = inode_of(memory_)});
  const auto bytes = std::as_bytes(std::span(records));
  // Never empty in between: a process killed here must not take the others out of the register.
  register_.write_at(0, bytes, path_);
  [[maybe_unused]] const int cut = ::ftruncate(register_.get(), static_cast<off_t>(bytes.size()));
}

std::unique_ptr<RamShare> RamShare::join(const std::string& name, const Found& found,
                                         const Check& check, std::string& why_not) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    why_not = "the size of files is limited (ulimit -f), which would bind shared memory too";
    return nullptr;
  }
  orphan_shares(Orphans::Remove);
  std::unique_ptr<RamShare> share(new RamShare());
  share->owner_pid_ = ::getpid();
  if (!share->open_register(name, why_not)) return nullptr;
  try {
    if (!share->find_memory(check)) {
      if (!share->others_.empty()) {
        why_not = "another version of brim shares memory under this name";
        return nullptr;
      }
      if (!share->make_memory(found, why_not)) return nullptr;
    }
    if (share->others_.size() >= kMostRecords) {
      why_not = "too many processes share it already";
      return nullptr;
    }
    share->write_records();
    if (!lock_byte(share->register_, kUseByte, LockKind::Shared, kJoinTimeoutMs)) {
      why_not = errno_text("cannot lock " + share->path_);
      return nullptr;
    }
  } catch (const std::exception& error) {
    why_not = error.what();
    return nullptr;
  }
  unlock_byte(share->register_, kChangeByte);
  return share;
}

RamShare::~RamShare() {
  if (!register_ || owner_pid_ != ::getpid()) return;  // a forked child joined nothing
  unlock_byte(register_, kUseByte);
  if (!lock_byte(register_, kChangeByte, LockKind::Exclusive, kJoinTimeoutMs)) return;
  if (!still_named(register_, path_)) return;
  if (!byte_is_locked(register_, kUseByte)) ::unlink(path_.c_str());
}

std::vector<std::string> orphan_shares(Orphans what) {
  std::vector<std::string> orphans;
  std::error_code error;
  for (fs::directory_iterator at(register_directory(), error), end; !error && at != end;
       at.increment(error)) {
    if (!at->path().filename().string().starts_with(register_prefix())) continue;
    const std::string path = at->path().string();
    const PosixFile file = open_file(path, O_RDWR | O_NOFOLLOW);
    if (!file || !lock_byte(file, kChangeByte, LockKind::Exclusive, 0)) continue;
    if (byte_is_locked(file, kUseByte) || !still_named(file, path)) continue;
    if (what == Orphans::Keep || ::unlink(path.c_str()) == 0) orphans.push_back(path);
  }
  return orphans;
}

}  // namespace brim::detail
