#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brim/cache/stores.h"

namespace brim {

/// What `brim cache verify|stats|rm|gc` show. `directory` is the one of CacheOptions, which holds
/// one folder per kind of store.

struct VerifyResult {
  std::int64_t entries = 0;
  std::int64_t intact = 0;
  std::int64_t damaged = 0;      ///< dropped from the store by looking at them
  std::int64_t value_bytes = 0;  ///< of the intact values
};
/// Reads every entry and checks its bytes; `progress(done, total)` is called now and then.
VerifyResult verify_store(Store& store,
                          const std::function<void(std::int64_t, std::int64_t)>& progress = {});

struct CacheFolder {
  CacheMode mode = CacheMode::None;  ///< Disk or Lmdb
  std::string directory{};
  std::int64_t files = 0;
  std::int64_t disk_bytes = 0;  ///< blocks in use, lock files included
};
/// The caches that lie in `directory`; empty when there are none.
std::vector<CacheFolder> find_cache_folders(const std::string& directory);

/// Removes brim's files in those folders, and the folders when nothing else is in them. Returns
/// the bytes of disk that became free. Throws Error, with nothing removed, while a process uses
/// one of them (a disk cache that a process only reads counts as unused: it goes on reading).
std::int64_t remove_caches(const std::string& directory);

struct GarbageResult {
  std::int64_t entries = 0;          ///< looked at
  std::int64_t removed_entries = 0;  ///< nobody wants them any more
  std::int64_t leftovers = 0;        ///< half-made or outdated files, registers of dead processes
  std::int64_t freed_bytes = 0;      ///< of disk
};
enum class GarbageMode { DryRun, Remove };
/// Whether the entry of a key is still wanted.
using KeepEntry = std::function<bool(const CacheKey&)>;
/// Clears up in `directory` and, for this user, in shared memory: what killed processes left
/// behind, segments of older versions, and entries that `keep` does not want (empty: all are
/// kept). Entries are dropped by copying the others, so the space of those must be free. Throws
/// Error while a process uses a cache that would change.
GarbageResult collect_garbage(const std::string& directory, const KeepEntry& keep,
                              GarbageMode mode);

}  // namespace brim
