#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "brim/cache/key.h"
#include "ram_share.h"

namespace brim::detail {

/// What lies at the start of the shared memory. Everything that changes is atomic: a process may
/// be killed between any two stores, and the next one that takes the lock goes on from there.
struct RamHead {
  static constexpr std::uint64_t kMagic = 0x31304d41524d4952ULL;
  static constexpr std::uint32_t kProcesses = 64;
  std::uint64_t magic;
  std::uint64_t version;
  std::uint64_t byte_limit;  ///< of the whole memory; 0: what budgets leave
  std::uint64_t chunk_bytes;
  std::uint64_t chunk_count;
  std::atomic<std::uint64_t> file_end;
  std::atomic<std::uint64_t> table;    ///< offset in pages << 8 | log2(slots)
  std::atomic<std::uint64_t> filled;   ///< slots of the table that are not empty
  std::atomic<std::uint64_t> current;  ///< chunk that is filled now
  std::atomic<std::uint64_t> retired;  ///< counts chunks given back
  std::atomic<std::int64_t> paused_until_ns;
  std::atomic<std::uint64_t> epochs[kProcesses];  ///< how often each process place was taken
};

/// A stretch of values. `life` is generation << 8 | state; a value whose generation is another
/// than its chunk's is gone.
struct RamChunkRecord {
  enum State : std::uint64_t { kFree, kMaking, kLive, kRetiring };
  std::atomic<std::uint64_t> life;
  std::atomic<std::uint64_t> offset;
  std::atomic<std::uint64_t> size;
  std::atomic<std::uint64_t> used;
  std::atomic<std::uint64_t> users;  ///< a bit for each process place that maps it
  std::atomic<std::uint64_t> entries;
  std::uint64_t reserved[2];
};
static_assert(sizeof(RamChunkRecord) == 64);

/// One value. `state` is a count of changes << 8 | status, so that a reader notices a change.
struct RamSlot {
  enum Status : std::uint64_t { kEmpty, kWriting, kReady };
  std::atomic<std::uint64_t> state;
  std::atomic<std::uint64_t> key_high, key_low;
  std::atomic<std::uint64_t> chunk;  ///< generation << 32 | number
  std::atomic<std::uint64_t> offset, length;
  std::atomic<std::uint64_t> checksum;
  std::atomic<std::uint64_t> owner;  ///< epoch << 8 | process place, while it is written
};
static_assert(sizeof(RamSlot) == 64);

/// Where a value lies.
struct RamValue {
  std::uint32_t chunk = 0;
  std::uint32_t generation = 0;
  std::uint64_t offset = 0;  ///< within the memory
  std::uint64_t length = 0;
  std::uint64_t checksum = 0;
};

/// The memory that processes share: head, chunk records, a table of values that grows by making a
/// new one, and the chunks themselves. Writers take a lock that ends with their process; readers
/// take none. Thread-safe; after fork() only the parent may use it.
class RamSegment {
 public:
  /// Null where nothing can be shared; `why_not` says why. `expected_bytes` decides the grain.
  static std::shared_ptr<RamSegment> open(const std::string& name, std::int64_t byte_limit,
                                          std::int64_t expected_bytes, std::string& why_not);
  ~RamSegment();
  RamSegment(const RamSegment&) = delete;
  RamSegment& operator=(const RamSegment&) = delete;

  std::optional<RamValue> find(const CacheKey& key);

  /// Pays for `bytes` more of memory; false: no.
  using Pay = std::function<bool(std::int64_t bytes)>;
  enum class Put { Placed, There, Full, Busy };
  /// Room for a value that is then written by this process and made visible by publish().
  Put place(const CacheKey& key, std::uint64_t length, const Pay& pay, RamValue& value);
  bool publish(const CacheKey& key, const RamValue& value);
  /// Takes a value whose bytes are wrong out of the table.
  void forget(const CacheKey& key, const RamValue& value);

  /// Marks the chunk as mapped by this process; false: it is gone.
  bool enter(std::uint32_t chunk, std::uint32_t generation);
  void leave(std::uint32_t chunk);
  bool is_live(std::uint32_t chunk, std::uint32_t generation) const;
  std::uint64_t chunk_size(std::uint32_t chunk) const { return chunks_[chunk].size.load(); }
  std::uint64_t chunk_offset(std::uint32_t chunk) const { return chunks_[chunk].offset.load(); }
  std::uint32_t chunk_count() const { return static_cast<std::uint32_t>(head_->chunk_count); }

  /// Makes chunks of together at least `bytes` unfindable; each is freed when no process maps it.
  std::int64_t retire(std::int64_t bytes);
  std::uint64_t retired() const { return head_->retired.load(std::memory_order_acquire); }
  /// Frees retired chunks that no living process maps.
  void sweep();

  void pause_until(std::int64_t ns) { head_->paused_until_ns = ns; }
  std::int64_t paused_until() const { return head_->paused_until_ns; }

  std::vector<CacheKey> keys();
  std::int64_t entries() const;
  std::int64_t bytes() const { return share_->memory().allocated_bytes(); }
  std::int64_t byte_limit() const { return static_cast<std::int64_t>(head_->byte_limit); }
  int processes() const;
  int descriptor() const { return share_->memory().get(); }
  /// Bytes of head and table, which every process maps.
  std::int64_t index_bytes() const;

 private:
  class Lock;
  /// The slots as this process maps them now.
  struct Table {
    std::uint64_t word = 0;
    RamSlot* slots = nullptr;
    std::uint64_t count() const { return std::uint64_t{1} << (word & 0xFF); }
    std::uint64_t mask() const { return count() - 1; }
  };

  RamSegment() = default;
  static bool prepare(const PosixFile& memory, std::int64_t byte_limit, std::int64_t expected);
  bool attach(std::string& why_not);
  bool map_table();
  void unmap_table();
  RamSlot* slot_of(const CacheKey& key, bool& empty);
  bool grow_table(const Pay& pay);
  bool valid(const RamSlot& slot) const;
  bool owner_lives(std::uint64_t owner) const;
  bool allocate(std::uint64_t length, const Pay& pay, RamValue& value);
  std::uint32_t find_open(std::uint64_t size) const;
  bool make_chunk(std::uint64_t size, const Pay& pay, std::uint32_t& number);
  void sweep_locked();
  std::uint64_t living_mask() const;
  bool fits(std::uint64_t bytes) const;
  static void fill(RamSlot& slot, const CacheKey& key, const RamValue& value, std::uint64_t owner,
                   RamSlot::Status status);

  std::unique_ptr<RamShare> share_;
  std::byte* base_ = nullptr;
  std::size_t base_bytes_ = 0;
  RamHead* head_ = nullptr;
  RamChunkRecord* chunks_ = nullptr;
  std::uint32_t place_ = 0;
  std::uint64_t owner_ = 0;
  std::int64_t pid_ = 0;
  mutable std::mutex mutex_;  ///< the table's mapping, and one writer of this process at a time
  Table table_;
};

}  // namespace brim::detail
