#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "brim/cache/memory_budget.h"
#include "brim/cache/store.h"

namespace brim {

/// Whether the processes of one user on one machine keep one copy of a RAM cache.
enum class CacheShare {
  Auto,     ///< where the machine can; else each its own, without a word
  Never,    ///< memory of this process alone
  Machine,  ///< as Auto, but stats().last_error says why when it cannot be
};

struct RamStoreOptions {
  std::int64_t byte_limit = 0;             ///< 0: what the budget leaves
  std::shared_ptr<MemoryBudget> budget{};  ///< null: one of its own over the machine's limits
  int regrow_after_ms = 5000;  ///< calm needed after memory was asked back before it fills again
  std::string share_name{};    ///< processes that give the same name share; empty: not shared
  CacheShare share = CacheShare::Auto;
};
/// Memory of this process, or one copy for all that share it: views without a copy, no eviction
/// while the budget stands. Registers with the budget at PressureOrder::kCache and gives whole
/// chunks back when asked. What is shared is freed by the kernel with its last process, counts
/// once against the first one's byte_limit, and against the budget of each process that maps it.
std::shared_ptr<Store> make_ram_store(const RamStoreOptions& options);

struct DiskStoreOptions {
  std::string directory{};      ///< created when absent
  std::int64_t byte_limit = 0;  ///< 0: 90% of the free space of the file system
  std::int64_t segment_bytes = std::int64_t{256} << 20;  ///< at least; large caps take larger ones
};
/// Segment files in a folder that several processes may share; each appends to files of its own
/// and sees the entries of the others within a second of a miss. Not for use after fork().
std::shared_ptr<Store> make_disk_store(const DiskStoreOptions& options);

/// What a put does while the writer is behind.
enum class WhenBusy {
  Wait,  ///< until there is room: everything offered is kept
  Drop,  ///< answer Full at once: the caller is never slowed down
};

struct LmdbStoreOptions {
  std::string directory{};                 ///< created when absent
  std::int64_t byte_limit = 0;             ///< 0: 90% of the free space of the file system
  std::shared_ptr<MemoryBudget> budget{};  ///< pays for the batch buffers where given
  std::int64_t batch_bytes = std::int64_t{8} << 20;  ///< of one transaction
  int batch_delay_ms = 200;                          ///< longest a value waits for its transaction
  std::int64_t map_bytes = std::int64_t{1} << 30;    ///< at start; grows by doubling
  WhenBusy when_busy = WhenBusy::Wait;
};
/// One LMDB environment, written in batches by a thread of its own, readable by mdb_dump and
/// py-lmdb. A folder that this process has open already gives the same store (first options
/// stand). Throws Error where the folder holds something that is not brim's. After fork() the
/// child's calls miss or fail; they never touch the environment.
std::shared_ptr<Store> make_lmdb_store(const LmdbStoreOptions& options);

/// `fast` in front of `slow`: reads try fast first. Puts go to slow, and to fast what slow does not
/// keep; of the rest, once a part of the values has been read a second time, fast takes those whose
/// reading takes longest per byte. `budget` is the one fast takes its memory from where it has no
/// byte limit of its own.
std::shared_ptr<Store> make_tiered_store(std::shared_ptr<Store> fast, std::shared_ptr<Store> slow,
                                         std::shared_ptr<MemoryBudget> budget = nullptr);

struct WatchOptions {
  double tolerance = 0.02;            ///< a hit may cost so much more than making the value
  std::int64_t expected_cost_ns = 0;  ///< of making a value, until puts tell; 0: unknown
  std::int64_t hits_per_check = 256;
  std::int64_t least_costs = 32;  ///< puts seen before anything is compared
  int slow_checks = 3;            ///< in a row, before the cache is given up
};
/// `inner`, given up for good once its hits cost more than making the values anew; `last_error`
/// says so then, every get() misses and what it held in memory is given back.
std::shared_ptr<Store> make_watched_store(std::shared_ptr<Store> inner,
                                          const WatchOptions& options = {});

enum class CacheMode { None, Ram, Disk, Lmdb, Tiered };

struct CacheOptions {
  CacheMode mode = CacheMode::None;
  std::string directory{};      ///< default: default_cache_directory()
  std::int64_t byte_limit = 0;  ///< of the mode's own medium; 0: decided from budget or free disk
  std::shared_ptr<MemoryBudget> budget{};
  std::string share_name{};  ///< see RamStoreOptions; empty: RAM is not shared
  CacheShare share = CacheShare::Auto;
};
/// The store for `options`; null for None. Throws Error where the directory cannot be used.
std::shared_ptr<Store> make_store(const CacheOptions& options);

/// `<user cache folder>/brim` given the values of XDG_CACHE_HOME and HOME (either may be empty).
std::string default_cache_directory(const std::string& xdg_cache_home, const std::string& home);

CacheMode parse_cache_mode(const std::string& text, const std::string& key = {});
std::string to_string(CacheMode mode);
CacheShare parse_cache_share(const std::string& text, const std::string& key = {});

}  // namespace brim
