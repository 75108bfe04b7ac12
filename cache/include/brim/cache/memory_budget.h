#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace brim {

/// One source of a memory limit and what it allows this process now, in bytes.
struct MemoryLimit {
  std::string source;      ///< "user", "cgroup v2 memory.max /a/b", "RLIMIT_DATA", "MemAvailable"
  std::int64_t limit = 0;  ///< resident bytes this process may have in all under this limit
  std::int64_t used_by_others = 0;
  std::int64_t ceiling = 0;  ///< the value as it was set, of which others use a part
};

/// What the machine, its containers and the user allow, read now.
struct MemoryLimits {
  std::vector<MemoryLimit> all{};
  std::int64_t effective = 0;     ///< smallest of them: resident bytes this process may have
  std::string decided_by{};       ///< `source` of the smallest
  std::int64_t own_resident = 0;  ///< resident bytes of this process, mapped files included
  std::int64_t own_private = 0;   ///< of those, what cannot be reclaimed: anonymous and shmem
};

/// Reads RLIMIT_AS/DATA, cgroup v1 (hierarchical) and v2 (memory.max, memory.high of every
/// ancestor; use excludes reclaimable page cache, counts shmem) and MemAvailable.
/// `root` is the file system root to read under (tests give a made one).
MemoryLimits read_memory_limits(std::int64_t user_limit = 0, const std::string& root = "/");

/// CPUs this process may use: min(affinity mask, cgroup v1/v2 quota/period of every ancestor
/// rounded down), at least 1.
int available_cpus(const std::string& root = "/");

class MemoryBudget;

/// Bytes held from a budget; given back on destruction. Movable.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation();
  std::int64_t bytes() const { return bytes_; }
  explicit operator bool() const { return budget_ != nullptr; }
  /// Grows (false: refused, unchanged; holders are asked back first) or shrinks to `bytes`.
  bool resize(std::int64_t bytes);
  void release();

 private:
  friend class MemoryBudget;
  std::shared_ptr<MemoryBudget> budget_;
  std::string holder_;
  std::int64_t bytes_ = 0;
};

struct MemoryBudgetOptions {
  std::int64_t byte_limit = 0;  ///< explicit ceiling, taken whole; 0: what the machine allows
  double fraction = 0.9;        ///< share of the machine's limit that is planned for
  /// Bytes in use outside the ledger (program, libraries), held by the holder "process"; -1: what
  /// is resident now when there is no explicit limit, else 0.
  std::int64_t base_bytes = -1;
  /// Address space that will come to be in use without being resident, such as the stacks of
  /// threads: RLIMIT_AS and RLIMIT_DATA are taken as if it were in use from the start.
  std::int64_t address_space_growth = 0;
  std::string root = "/";  ///< file system root that limits are read under
};

/// Who is asked for memory back first; lower values earlier.
struct PressureOrder {
  static constexpr int kCache = 100;     ///< cached values: cost a decode each, nothing else
  static constexpr int kPrefetch = 200;  ///< batches made ahead
  static constexpr int kScratch = 300;   ///< reusable buffers of workers
};

/// The one ceiling of a process (Law 2), in resident bytes, mapped files included: cache, decode
/// scratch, prefetched batches and pinned buffers reserve from it before they allocate.
/// Thread-safe; shared by shared_ptr. The limit is min(explicit, fraction x machine), and follows
/// the machine at each refresh().
///
///   auto budget = MemoryBudget::make({.byte_limit = 2 << 30});
///   Reservation slots = budget->reserve("slots", bytes);   // empty: refused
class MemoryBudget : public std::enable_shared_from_this<MemoryBudget> {
 public:
  static std::shared_ptr<MemoryBudget> make(const MemoryBudgetOptions& options = {});

  std::int64_t limit() const;
  std::int64_t reserved() const;
  std::int64_t available() const;
  /// Asks holders with a give-back callback first when there is no room; empty when it stays so.
  Reservation reserve(const std::string& holder, std::int64_t bytes);
  /// Same without asking anybody: for holders that are themselves asked back.
  Reservation try_reserve(const std::string& holder, std::int64_t bytes);
  /// Same as reserve(), but throws Error naming limit, holders and the bytes asked for.
  Reservation reserve_or_throw(const std::string& holder, std::int64_t bytes);

  /// `give_back(bytes)` frees up to `bytes` and returns what it freed; lower `order` is asked
  /// first. The returned handle unregisters on destruction, after a running call has ended.
  /// Callbacks run on the asking thread: never reserve under a lock that a callback takes.
  using GiveBack = std::function<std::int64_t(std::int64_t bytes)>;
  std::shared_ptr<void> on_pressure(int order, std::string holder, GiveBack give_back);
  /// Asks holders, in order, to free `bytes`; returns what was freed.
  std::int64_t ask_back(std::int64_t bytes);

  /// Asks `measure` for the resident bytes, enters what of them was never reserved, and returns
  /// them: "process" grows until the ledger held at least so much at some moment of the measuring
  /// (what was given back meanwhile is no part of the program). It does not shrink: what was needed
  /// once may be needed again.
  std::int64_t cover(const std::function<std::int64_t()>& measure);
  /// What "process" holds from now on, once it is known better than at the start.
  void set_base(std::int64_t bytes);
  /// What makes room for `bytes` more than is reserved now, e.g. "the smallest budget that works is
  /// 412 MiB" or "raise RLIMIT_DATA to at least 412 MiB". Has room for what differs from run to
  /// run.
  std::string remedy(std::int64_t bytes) const;

  /// "0 B of the 2.0 GiB limit (set by user) are left; held: process 200.0 MiB, tensors 1.8 GiB".
  std::string state() const;

  /// Reads the machine's limits again, adapts limit() and returns them.
  MemoryLimits refresh();
  /// The limits as last read.
  MemoryLimits limits() const;

  struct Holder {
    std::string name;
    std::int64_t bytes;
  };
  std::vector<Holder> holders() const;

 private:
  MemoryBudget();
  friend class Reservation;
  struct Impl;
  std::unique_ptr<Impl> impl_;

 public:
  ~MemoryBudget();
};

/// "1.5 GiB", "300 MiB", "12.0 KiB".
std::string format_bytes(std::int64_t bytes);
/// Reads "6GiB", "6G", "500MB", "1.5 GiB", "1048576"; throws Error with `key` named.
std::int64_t parse_bytes(const std::string& text, const std::string& key = {});

}  // namespace brim
