#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brim/cache/key.h"

namespace brim {

/// A cached value as a reader sees it: either a view of memory that the store keeps stable (RAM),
/// or of `scratch`, which keeps its capacity from call to call so that reading allocates nothing.
/// One Blob per thread.
struct Blob {
  std::span<const std::byte> bytes{};
  std::vector<std::byte> scratch{};
  std::shared_ptr<const void> owner{};  ///< keeps stable memory alive while the Blob looks at it

  /// The first `size` bytes of scratch, which grows to just that where it is smaller.
  std::span<std::byte> room(std::size_t size) {
    if (scratch.size() < size) {
      std::vector<std::byte>().swap(scratch);
      scratch.resize(size);
    }
    return std::span(scratch).first(size);
  }
};

enum class PutResult {
  Stored,
  AlreadyThere,
  Full,    ///< the byte cap or the budget leaves no room; the store keeps what it has
  Failed,  ///< the medium failed (disk full, read-only); reported once in stats().last_error
};

struct StoreStats {
  std::int64_t entries = 0;
  std::int64_t bytes = 0;       ///< bytes held, overhead included
  std::int64_t byte_limit = 0;  ///< 0: none of its own
  std::int64_t hits = 0;
  std::int64_t misses = 0;
  std::int64_t puts = 0;
  std::int64_t rejected = 0;  ///< puts answered Full or Failed
  std::int64_t damaged = 0;   ///< entries dropped because their checksum or header was wrong
  std::string last_error{};   ///< one line; empty while all is well
};

/// Keeps values by key: RAM, disk, LMDB or several of them in tiers. Every method may be called
/// from any thread. A store never fails a training run: what cannot be kept or read back intact is
/// a miss. It never evicts while its limit stands (a filled shuffled cache is optimal so).
///
///   std::shared_ptr<Store> store = make_ram_store({.byte_limit = 1 << 30, .budget = budget});
///   if (!store->get(key, blob)) { decode(...); store->put(key, bytes, cost_ns); }
class Store {
 public:
  virtual ~Store() = default;

  /// True and `blob.bytes` set when `key` is held and its checksum holds.
  virtual bool get(const CacheKey& key, Blob& blob) = 0;
  /// Offers a value; `cost_ns` is what it took to make it (load + decode), used by tiers.
  virtual PutResult put(const CacheKey& key, std::span<const std::byte> value,
                        std::int64_t cost_ns) = 0;
  virtual bool contains(const CacheKey& key) const = 0;
  /// Keys that will be asked for soon, in that order: the store may read ahead.
  virtual void will_need(std::span<const CacheKey> keys);
  /// Makes everything put so far durable (disk, LMDB) and visible to other processes.
  virtual void flush();
  /// Gives back up to `bytes` of host memory (RAM tiers); returns what was given.
  virtual std::int64_t release(std::int64_t bytes);
  /// Keys held now, in no order; for verification and maintenance, not for training.
  virtual std::vector<CacheKey> keys() const;
  virtual StoreStats stats() const = 0;
  /// Processor time in ns that threads of the store's own have worked so far on what was put.
  virtual std::int64_t background_ns() const;
  virtual std::string describe() const = 0;  ///< e.g. "ram 1.2 GiB of 2.0 GiB"
};

}  // namespace brim
