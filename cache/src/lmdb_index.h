#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "brim/cache/key.h"
#include "key_map.h"

namespace brim::detail {

/// Where a value's bytes lie in the data file.
struct LmdbPlace {
  std::uint64_t file_offset = 0;
  std::uint64_t checksum = 0;
  std::uint64_t block = 0;
  std::uint32_t length = 0;
  friend bool operator==(const LmdbPlace&, const LmdbPlace&) = default;
};

/// What this process knows of the values in an LMDB cache, taken from the blocks' directories.
/// Thread-safe.
class LmdbIndex {
 public:
  std::optional<LmdbPlace> find(const CacheKey& key) const {
    const Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const LmdbPlace* place = shard.map.find(key);
    return place == nullptr ? std::nullopt : std::optional(*place);
  }

  /// A later place of a key is the valid one: an earlier was dropped before it was written.
  void insert(const CacheKey& key, const LmdbPlace& place) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    if (LmdbPlace* held = shard.map.find(key)) {
      *held = place;
    } else {
      shard.map.insert(key, place);
      size_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  /// False when `key` is not at `place` (any more).
  bool erase(const CacheKey& key, const LmdbPlace& place) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const LmdbPlace* held = shard.map.find(key);
    if (held == nullptr || !(*held == place)) return false;
    size_.fetch_sub(1, std::memory_order_relaxed);
    return shard.map.erase(key);
  }

  std::int64_t size() const { return size_.load(std::memory_order_relaxed); }

  std::vector<CacheKey> keys() const {
    std::vector<CacheKey> all;
    for (const Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      shard.map.for_each([&](const CacheKey& key, const LmdbPlace&) { all.push_back(key); });
    }
    return all;
  }

 private:
  struct Shard {
    mutable std::mutex mutex;
    KeyMap<LmdbPlace> map;
  };
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(const CacheKey& key) { return shards_[key.low % kShards]; }
  const Shard& shard_of(const CacheKey& key) const { return shards_[key.low % kShards]; }

  std::array<Shard, kShards> shards_;
  std::atomic<std::int64_t> size_{0};
};

}  // namespace brim::detail
