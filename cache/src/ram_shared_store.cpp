#include "ram_shared_store.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "counters.h"
#include "entry.h"
#include "key_map.h"
#include "ram_segment.h"

namespace brim::detail {
namespace {

using Clock = std::chrono::steady_clock;

/// How long release() waits for other processes to let go of what was retired.
constexpr int kReleaseRounds = 25;
constexpr auto kReleaseStep = std::chrono::milliseconds(2);

/// One chunk as this process maps it, with the reservation that pays for it. Lives as long as the
/// store or any reader's view needs it.
class Mapping {
 public:
  static std::shared_ptr<Mapping> make(std::shared_ptr<RamSegment> segment, const RamValue& value,
                                       MemoryBudget& budget) {
    const auto size = segment->chunk_size(value.chunk);
    Reservation reservation = budget.try_reserve("ram cache", static_cast<std::int64_t>(size));
    if (!reservation || !segment->enter(value.chunk, value.generation)) return nullptr;
    const std::uint64_t offset = segment->chunk_offset(value.chunk);
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      segment->descriptor(), static_cast<off_t>(offset));
    if (at == MAP_FAILED) {
      segment->leave(value.chunk);
      return nullptr;
    }
    return std::shared_ptr<Mapping>(new Mapping(std::move(segment), value, offset, size,
                                                static_cast<std::byte*>(at),
                                                std::move(reservation)));
  }
  ~Mapping() {
    ::munmap(data_, size_);
    segment_->leave(chunk_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* at(std::uint64_t offset) const { return data_ + (offset - offset_); }
  std::uint32_t generation() const { return generation_; }
  std::uint32_t chunk() const { return chunk_; }
  std::int64_t size() const { return static_cast<std::int64_t>(size_); }
  bool is_live() const { return segment_->is_live(chunk_, generation_); }

 private:
  Mapping(std::shared_ptr<RamSegment> segment, const RamValue& value, std::uint64_t offset,
          std::uint64_t size, std::byte* data, Reservation reservation)
      : segment_(std::move(segment)),
        chunk_(value.chunk),
        generation_(value.generation),
        offset_(offset),
        size_(size),
        data_(data),
        reservation_(std::move(reservation)) {}

  std::shared_ptr<RamSegment> segment_;
  std::uint32_t chunk_;
  std::uint32_t generation_;
  std::uint64_t offset_;
  std::uint64_t size_;
  std::byte* data_;
  Reservation reservation_;
};

/// Values in memory that all processes of a user share. What this process has looked at once is
/// found in an index of its own, verified, and served as a view without a copy.
class SharedRamStore final : public Store {
 public:
  SharedRamStore(std::shared_ptr<RamSegment> segment, const RamStoreOptions& options,
                 Reservation index)
      : segment_(std::move(segment)),
        budget_(options.budget),
        regrow_after_(std::chrono::milliseconds(options.regrow_after_ms)),
        table_paid_(index.bytes()),
        mappings_(segment_->chunk_count()),
        retired_seen_(segment_->retired()) {
    index_.push_back(std::move(index));
  }

  bool get(const CacheKey& key, Blob& blob) override {
    if (retired_seen_.load(std::memory_order_relaxed) != segment_->retired()) drop_retired();
    return counters_.count_lookup(find_own(key, blob) || find_shared(key, blob));
  }

  PutResult put(const CacheKey& key, std::span<const std::byte> value, std::int64_t) override {
    return counters_.count(store(key, value));
  }

  bool contains(const CacheKey& key) const override {
    return ::getpid() == pid_ && segment_->find(key).has_value();
  }

  std::int64_t release(std::int64_t bytes) override {
    if (::getpid() != pid_) return 0;
    segment_->pause_until((Clock::now() + regrow_after_).time_since_epoch().count());
    const std::int64_t own_before = mapped_.load();
    const std::int64_t before = segment_->bytes();
    if (segment_->retire(bytes) == 0) return 0;
    drop_retired();
    std::int64_t freed = before - segment_->bytes();
    for (int round = 0; round < kReleaseRounds && freed < bytes; ++round) {
      std::this_thread::sleep_for(kReleaseStep);
      segment_->sweep();
      freed = before - segment_->bytes();
    }
    // What others still look at is free for this process's budget all the same.
    return std::max({freed, own_before - mapped_.load(), std::int64_t{0}});
  }

  std::vector<CacheKey> keys() const override { return segment_->keys(); }

  StoreStats stats() const override {
    StoreStats stats;
    counters_.fill(stats);
    stats.entries = segment_->entries();
    stats.bytes = segment_->bytes();
    stats.byte_limit = segment_->byte_limit();
    return stats;
  }

  std::string describe() const override {
    const std::int64_t held = segment_->bytes();
    const std::int64_t limit =
        segment_->byte_limit() > 0 ? segment_->byte_limit() : held + budget_->available();
    const int processes = segment_->processes();
    return "ram " + format_bytes(held) + " of " + format_bytes(limit) +
           (processes > 1 ? ", shared by " + std::to_string(processes) + " processes" : "");
  }

 private:
  struct Entry {
    std::shared_ptr<Mapping> mapping{};
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  struct Shard {
    mutable std::mutex mutex;
    KeyMap<Entry> map;
  };
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(const CacheKey& key) { return shards_[key.low % kShards]; }

  bool find_own(const CacheKey& key, Blob& blob) {
    const Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* entry = shard.map.find(key);
    if (entry == nullptr) return false;
    blob.bytes = {entry->mapping->at(entry->offset), entry->length};
    blob.owner = entry->mapping;
    return true;
  }

  bool find_shared(const CacheKey& key, Blob& blob) {
    if (::getpid() != pid_) return false;
    const std::optional<RamValue> value = segment_->find(key);
    if (!value) return false;
    const std::shared_ptr<Mapping> mapping = map(*value);
    if (mapping == nullptr) return false;  // no room in this process's budget
    const std::span<const std::byte> bytes(mapping->at(value->offset), value->length);
    if (value_checksum(key, bytes) != value->checksum) {
      if (!mapping->is_live()) return false;
      counters_.damaged();
      segment_->forget(key, *value);
      return false;
    }
    remember(key, *value, mapping);
    blob.bytes = bytes;
    blob.owner = mapping;
    return true;
  }

  /// This process's mapping of the value's chunk; null: the chunk is gone or the budget is full.
  std::shared_ptr<Mapping> map(const RamValue& value) {
    const std::lock_guard lock(mappings_mutex_);
    std::shared_ptr<Mapping>& held = mappings_[value.chunk];
    if (held != nullptr && held->generation() == value.generation) return held;
    if (held != nullptr) return nullptr;  // an older one that is about to be dropped
    held = Mapping::make(segment_, value, *budget_);
    if (held != nullptr) mapped_ += held->size();
    return held;
  }

  /// Keeps the place of a verified value, where the budget has room for that.
  void remember(const CacheKey& key, const RamValue& value, std::shared_ptr<Mapping> mapping) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const std::int64_t growth = shard.map.growth_bytes();
    if (growth > 0 && !pay_index(growth)) return;
    shard.map.insert(key, {std::move(mapping), value.offset, value.length});
  }

  bool pay_index(std::int64_t bytes) {
    Reservation reservation = budget_->try_reserve("ram cache", bytes);
    if (!reservation) return false;
    const std::lock_guard lock(index_mutex_);
    index_.push_back(std::move(reservation));
    return true;
  }

  PutResult store(const CacheKey& key, std::span<const std::byte> value) {
    if (::getpid() != pid_) return PutResult::Failed;
    if (retired_seen_.load(std::memory_order_relaxed) != segment_->retired()) drop_retired();
    if (Clock::now().time_since_epoch().count() < segment_->paused_until()) return PutResult::Full;
    RamValue place;
    // Only asked whether there is room: mapping the chunk then takes it.
    const auto pay = [this](std::int64_t bytes) {
      return static_cast<bool>(budget_->try_reserve("ram cache", bytes));
    };
    switch (segment_->place(key, value.size(), pay, place)) {
      case RamSegment::Put::There:
        return PutResult::AlreadyThere;
      case RamSegment::Put::Full:
      case RamSegment::Put::Busy:
        return PutResult::Full;
      case RamSegment::Put::Placed:
        break;
    }
    pay_for_table();
    const std::shared_ptr<Mapping> mapping = map(place);
    if (mapping == nullptr) {
      segment_->forget(key, place);
      return PutResult::Full;
    }
    if (!value.empty()) std::memcpy(mapping->at(place.offset), value.data(), value.size());
    place.checksum = value_checksum(key, value);
    if (!segment_->publish(key, place)) return PutResult::Full;
    remember(key, place, mapping);
    return PutResult::Stored;
  }

  /// The table is there already; a budget without room for it shows at the next chunk.
  void pay_for_table() {
    const std::int64_t bytes = segment_->index_bytes();
    const std::lock_guard lock(index_mutex_);
    if (bytes <= table_paid_) return;
    Reservation more = budget_->try_reserve("ram cache", bytes - table_paid_);
    if (!more) return;
    index_.push_back(std::move(more));
    table_paid_ = bytes;
  }

  /// Lets go of every chunk that some process gave back.
  void drop_retired() {
    if (::getpid() != pid_) return;
    retired_seen_ = segment_->retired();
    for (Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      std::vector<CacheKey> gone;
      shard.map.for_each([&](const CacheKey& key, const Entry& entry) {
        if (!entry.mapping->is_live()) gone.push_back(key);
      });
      for (const CacheKey& key : gone) shard.map.erase(key);
    }
    {
      const std::lock_guard lock(mappings_mutex_);
      for (std::shared_ptr<Mapping>& held : mappings_) {
        if (held == nullptr || held->is_live()) continue;
        mapped_ -= held->size();
        held.reset();
      }
    }
    segment_->sweep();
  }

  const std::shared_ptr<RamSegment> segment_;
  const std::shared_ptr<MemoryBudget> budget_;
  const Clock::duration regrow_after_;
  const pid_t pid_ = ::getpid();
  std::mutex index_mutex_;
  std::int64_t table_paid_;
  std::vector<Reservation> index_;
  std::array<Shard, kShards> shards_;
  std::mutex mappings_mutex_;
  std::vector<std::shared_ptr<Mapping>> mappings_;
  std::atomic<std::int64_t> mapped_{0};
  std::atomic<std::uint64_t> retired_seen_;
  Counters counters_;
};

}  // namespace

std::shared_ptr<Store> make_shared_ram_store(const RamStoreOptions& options, std::string& why_not) {
  std::int64_t expected = options.budget->limit();
  if (options.byte_limit > 0) expected = std::min(expected, options.byte_limit);
  std::shared_ptr<RamSegment> segment =
      RamSegment::open(options.share_name, options.byte_limit, expected, why_not);
  if (segment == nullptr) return nullptr;
  Reservation index = options.budget->try_reserve("ram cache", segment->index_bytes());
  if (!index) {
    why_not =
        "the memory budget has no room for its index of " + format_bytes(segment->index_bytes());
    return nullptr;
  }
  return std::make_shared<SharedRamStore>(std::move(segment), options, std::move(index));
}

}  // namespace brim::detail
