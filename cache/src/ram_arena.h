#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "brim/cache/key.h"
#include "brim/cache/memory_budget.h"

namespace brim::detail {

/// One mapping of memory with the reservation that pays for it; both end together, when neither
/// the arena nor any reader's view holds the chunk.
class RamChunk {
 public:
  /// Null where the system gives no memory.
  static std::shared_ptr<RamChunk> make(std::size_t bytes, Reservation reservation);
  ~RamChunk();
  RamChunk(const RamChunk&) = delete;
  RamChunk& operator=(const RamChunk&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t room() const { return size_ - used_; }  ///< under the arena's mutex

 private:
  friend class RamArena;
  RamChunk(std::byte* data, std::size_t size, Reservation reservation);
  std::byte* data_;
  std::size_t size_;
  Reservation reservation_;
  std::size_t used_ = 0;
  int writers_ = 0;
  std::vector<CacheKey> keys_;
};

/// Bump allocation of values in large chunks that are reserved from a budget before they are
/// mapped. Thread-safe. A chunk is freed whole; never while a value is being written to it.
class RamArena {
 public:
  RamArena(std::int64_t byte_limit, std::shared_ptr<MemoryBudget> budget);

  struct Place {
    std::shared_ptr<RamChunk> chunk{};  ///< null: no room
    std::size_t offset = 0;
  };
  /// Room for `size` bytes, 64-byte aligned; finish() must follow when they are written.
  Place allocate(const CacheKey& key, std::size_t size);
  void finish(const Place& place);

  /// Takes the chunk to give back next out of the arena (unseen ones first, newest first) and
  /// `keys` with it; null when there is none.
  std::shared_ptr<RamChunk> take(std::vector<CacheKey>& keys);

  /// Pays for `bytes` of index; false: no room.
  bool reserve_index(std::int64_t bytes);

  std::int64_t bytes() const;  ///< chunks of the arena and the index
  std::int64_t byte_limit() const { return byte_limit_; }

 private:
  bool fits(std::int64_t bytes) const;
  std::shared_ptr<RamChunk> add_chunk(std::size_t size);
  std::shared_ptr<RamChunk> add_chunk_for(std::size_t size);
  std::shared_ptr<RamChunk> find_open(std::size_t size) const;

  const std::int64_t byte_limit_;
  const std::size_t chunk_bytes_;
  const std::shared_ptr<MemoryBudget> budget_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<RamChunk>> chunks_;
  std::vector<std::shared_ptr<RamChunk>> open_;  ///< the newest and those with most room
  std::int64_t chunk_total_ = 0;
  std::int64_t index_total_ = 0;
  std::vector<Reservation> index_;
};

}  // namespace brim::detail
