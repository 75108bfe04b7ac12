#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "posix_file.h"

namespace brim::detail {

/// How the processes of one user on one machine find the memory that they share. The memory is an
/// anonymous file (memfd): the kernel frees it with its last user, however that one ends, and no
/// limit of /dev/shm applies. A small register under /dev/shm says which processes have it open; a
/// newcomer opens it through /proc/PID/fd. The last user removes the register; one that was left by
/// killed processes is removed by the next start or by orphan_shares().
class RamShare {
 public:
  /// Prepares a memory that was just made; false: it cannot be used.
  using Found = std::function<bool(const PosixFile& memory)>;
  /// Whether a memory that was found is of the kind that is wanted.
  using Check = std::function<bool(const PosixFile& memory)>;

  /// Joins the share `name`, or founds it; null where that cannot be, `why_not` says why.
  static std::unique_ptr<RamShare> join(const std::string& name, const Found& found,
                                        const Check& check, std::string& why_not);
  ~RamShare();
  RamShare(const RamShare&) = delete;
  RamShare& operator=(const RamShare&) = delete;

  const PosixFile& memory() const { return memory_; }

 private:
  RamShare() = default;
  bool open_register(const std::string& name, std::string& why_not);
  bool find_memory(const Check& check);
  bool make_memory(const Found& found, std::string& why_not);
  void write_records();

  struct Record {
    std::int64_t pid = 0;
    std::int64_t descriptor = -1;
    std::uint64_t inode = 0;
  };
  std::string path_;
  PosixFile register_;
  PosixFile memory_;
  std::vector<Record> others_;
  std::int64_t owner_pid_ = 0;
};

/// Registers that no living process uses, and whether they are removed. Returns their paths.
enum class Orphans { Keep, Remove };
std::vector<std::string> orphan_shares(Orphans what);

}  // namespace brim::detail
