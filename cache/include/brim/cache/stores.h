#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "brim/cache/memory_budget.h"
#include "brim/cache/store.h"

namespace brim {

struct RamStoreOptions {
  std::int64_t byte_limit = 0;  ///< 0: what the budget leaves
  std::shared_ptr<MemoryBudget> budget{};
};
std::shared_ptr<Store> make_ram_store(const RamStoreOptions& options);

struct DiskStoreOptions {
  std::string directory{};      ///< created when absent
  std::int64_t byte_limit = 0;  ///< 0: 90% of the free space of the file system
  std::int64_t segment_bytes = std::int64_t{256} << 20;
};
std::shared_ptr<Store> make_disk_store(const DiskStoreOptions& options);

struct LmdbStoreOptions {
  std::string directory{};
  std::int64_t byte_limit = 0;
};
std::shared_ptr<Store> make_lmdb_store(const LmdbStoreOptions& options);

/// `fast` in front of `slow`: reads try fast first, puts go to both where there is room.
std::shared_ptr<Store> make_tiered_store(std::shared_ptr<Store> fast, std::shared_ptr<Store> slow);

enum class CacheMode { None, Ram, Disk, Lmdb, Tiered };

struct CacheOptions {
  CacheMode mode = CacheMode::None;
  std::string directory{};      ///< default: default_cache_directory()
  std::int64_t byte_limit = 0;  ///< of the mode's own medium; 0: decided from budget or free disk
  std::shared_ptr<MemoryBudget> budget{};
};
/// The store for `options`; null for None. Throws Error where the directory cannot be used.
std::shared_ptr<Store> make_store(const CacheOptions& options);

/// `<user cache folder>/brim` given the values of XDG_CACHE_HOME and HOME (either may be empty).
std::string default_cache_directory(const std::string& xdg_cache_home, const std::string& home);

CacheMode parse_cache_mode(const std::string& text, const std::string& key = {});
std::string to_string(CacheMode mode);

}  // namespace brim
