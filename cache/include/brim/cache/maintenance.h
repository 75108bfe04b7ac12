#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brim/cache/stores.h"

namespace brim {

/// What `brim cache verify|stats|rm` show. `directory` is the one of CacheOptions, which holds one
/// folder per kind of store.

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

}  // namespace brim
