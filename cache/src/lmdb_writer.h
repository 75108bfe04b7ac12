#pragma once

#include <lmdb.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "brim/cache/memory_budget.h"
#include "brim/cache/store.h"
#include "brim/cache/stores.h"
#include "key_map.h"
#include "lmdb_environment.h"

namespace brim::detail {

/// Collects values and writes them from a thread of its own, hundreds per transaction, as one
/// block of bytes and its directory. Values can be read from the moment they are taken: what
/// leaves the writer is in the environment's index by then. Thread-safe.
class LmdbWriter {
 public:
  /// `lost(count, why)` is told of values that were taken but could not be written.
  using Lost = std::function<void(std::int64_t count, const std::string& why)>;

  LmdbWriter(LmdbEnvironment& environment, const LmdbStoreOptions& options, Lost lost);
  /// Writes what is pending.
  ~LmdbWriter();
  LmdbWriter(const LmdbWriter&) = delete;
  LmdbWriter& operator=(const LmdbWriter&) = delete;

  PutResult put(const CacheKey& key, std::span<const std::byte> value);
  /// Copies a value that is not committed yet into `blob`.
  bool get_pending(const CacheKey& key, Blob& blob);
  bool is_pending(const CacheKey& key);
  /// Takes the row of a damaged value, which has left the index, out of its block's directory.
  void remove(const CacheKey& key, const LmdbPlace& place);
  /// Returns when everything taken so far is committed (or lost).
  void flush();
  std::int64_t pending_count();
  /// Processor time of the thread that writes, as of its last batch.
  std::int64_t worked_ns() const { return worked_ns_.load(std::memory_order_relaxed); }

 private:
  struct Item {
    CacheKey key;
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t checksum;
  };
  struct Removal {
    CacheKey key;
    LmdbPlace place;
  };
  struct Batch {
    std::vector<std::byte> bytes;
    std::vector<Item> items;
    std::vector<Removal> removals;
    KeyMap<std::uint32_t> index;
    std::chrono::steady_clock::time_point since;
    bool empty() const { return items.empty() && removals.empty(); }
    void clear(std::size_t keep_bytes);
  };

  void run();
  bool due(const Batch& batch) const;
  const Item* find(const Batch& batch, const CacheKey& key) const;
  void write(Batch& batch);
  int write_in(const LmdbEnvironment::Write& write, const Batch& batch);
  bool fits(std::size_t size);

  LmdbEnvironment& environment_;
  const LmdbStoreOptions options_;
  const Lost lost_;
  Reservation reservation_;
  std::mutex mutex_;
  std::condition_variable wake_;  ///< the writer
  std::condition_variable done_;  ///< those who wait for it
  Batch filling_;
  Batch writing_;
  bool stop_ = false;
  std::uint64_t flush_wanted_ = 0;
  std::uint64_t flush_done_ = 0;
  std::atomic<std::int64_t> worked_ns_{0};
  std::chrono::steady_clock::time_point failed_until_{};
  std::thread thread_;
};

}  // namespace brim::detail
