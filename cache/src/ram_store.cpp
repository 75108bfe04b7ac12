#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "brim/cache/stores.h"
#include "counters.h"
#include "key_map.h"
#include "ram_arena.h"
#include "ram_shared_store.h"

namespace brim {
namespace {

using Clock = std::chrono::steady_clock;
using detail::RamArena;
using detail::RamChunk;

/// Values in arena chunks, found through a sharded index. Readers get views without a copy; a view
/// keeps its chunk alive after the store has given it back.
class RamStore final : public Store {
 public:
  explicit RamStore(const RamStoreOptions& options)
      : arena_(options.byte_limit, options.budget),
        budget_(options.budget),
        regrow_after_(std::chrono::milliseconds(options.regrow_after_ms)) {}

  void note(const std::string& what) { counters_.failed(what); }

  bool get(const CacheKey& key, Blob& blob) override {
    const Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* entry = shard.map.find(key);
    const bool found = entry != nullptr && entry->chunk != nullptr;
    if (found) {
      blob.bytes = {entry->chunk->data() + entry->offset, entry->length};
      blob.owner = entry->chunk;
    }
    return counters_.count_lookup(found);
  }

  PutResult put(const CacheKey& key, std::span<const std::byte> value, std::int64_t) override {
    return counters_.count(store(key, value));
  }

  bool contains(const CacheKey& key) const override {
    const Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* entry = shard.map.find(key);
    return entry != nullptr && entry->chunk != nullptr;
  }

  std::int64_t release(std::int64_t bytes) override {
    paused_until_.store((Clock::now() + regrow_after_).time_since_epoch().count());
    std::int64_t freed = 0;
    std::vector<CacheKey> keys;
    while (freed < bytes) {
      std::shared_ptr<RamChunk> chunk = arena_.take(keys);
      if (chunk == nullptr) break;
      for (const CacheKey& key : keys) drop(key, chunk);
      const auto size = static_cast<std::int64_t>(chunk->size());
      const std::weak_ptr<RamChunk> watch = chunk;
      chunk.reset();
      if (watch.expired()) freed += size;  // else it ends with the last view of it
    }
    return freed;
  }

  std::vector<CacheKey> keys() const override {
    std::vector<CacheKey> all;
    for (const Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      shard.map.for_each([&](const CacheKey& key, const Entry& entry) {
        if (entry.chunk != nullptr) all.push_back(key);
      });
    }
    return all;
  }

  StoreStats stats() const override {
    StoreStats stats;
    counters_.fill(stats);
    stats.entries = entries_.load();
    stats.bytes = arena_.bytes();
    stats.byte_limit = arena_.byte_limit();
    return stats;
  }

  std::string describe() const override {
    const std::int64_t held = arena_.bytes();
    const std::int64_t limit =
        arena_.byte_limit() > 0 ? arena_.byte_limit() : held + budget_->available();
    return "ram " + format_bytes(held) + " of " + format_bytes(limit);
  }

 private:
  struct Entry {
    std::shared_ptr<RamChunk> chunk{};  ///< null: being written
    std::size_t offset = 0;
    std::size_t length = 0;
  };
  struct Shard {
    mutable std::mutex mutex;
    detail::KeyMap<Entry> map;
  };
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(const CacheKey& key) { return shards_[key.low % kShards]; }
  const Shard& shard_of(const CacheKey& key) const { return shards_[key.low % kShards]; }

  PutResult store(const CacheKey& key, std::span<const std::byte> value) {
    Shard& shard = shard_of(key);
    {
      const std::lock_guard lock(shard.mutex);
      if (shard.map.find(key) != nullptr) return PutResult::AlreadyThere;
      if (Clock::now().time_since_epoch().count() < paused_until_.load()) return PutResult::Full;
      const std::int64_t growth = shard.map.growth_bytes();
      if (growth > 0 && !arena_.reserve_index(growth)) return PutResult::Full;
      shard.map.insert(key, Entry{});
    }
    const RamArena::Place place = arena_.allocate(key, value.size());
    if (place.chunk == nullptr) {
      const std::lock_guard lock(shard.mutex);
      shard.map.erase(key);
      return PutResult::Full;
    }
    if (!value.empty()) std::memcpy(place.chunk->data() + place.offset, value.data(), value.size());
    {
      const std::lock_guard lock(shard.mutex);
      *shard.map.find(key) = Entry{place.chunk, place.offset, value.size()};
    }
    entries_.fetch_add(1);
    arena_.finish(place);
    return PutResult::Stored;
  }

  void drop(const CacheKey& key, const std::shared_ptr<RamChunk>& chunk) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* entry = shard.map.find(key);
    if (entry == nullptr || entry->chunk != chunk) return;
    shard.map.erase(key);
    entries_.fetch_sub(1);
  }

  std::array<Shard, kShards> shards_;
  RamArena arena_;
  std::shared_ptr<MemoryBudget> budget_;
  Clock::duration regrow_after_;
  std::atomic<Clock::rep> paused_until_{0};
  std::atomic<std::int64_t> entries_{0};
  detail::Counters counters_;
};

/// The store together with its registration, which must end first.
struct Registered {
  std::shared_ptr<Store> store;
  std::shared_ptr<void> registration;
};

std::shared_ptr<Store> open_store(const RamStoreOptions& options) {
  if (options.share_name.empty() || options.share == CacheShare::Never)
    return std::make_shared<RamStore>(options);
  std::string why_not;
  if (auto shared = detail::make_shared_ram_store(options, why_not)) return shared;
  auto own = std::make_shared<RamStore>(options);
  if (options.share == CacheShare::Machine)
    own->note("the RAM cache is not shared with other processes: " + why_not);
  return own;
}

}  // namespace

std::shared_ptr<Store> make_ram_store(const RamStoreOptions& options) {
  RamStoreOptions decided = options;
  if (decided.budget == nullptr) decided.budget = MemoryBudget::make();
  auto both = std::make_shared<Registered>();
  both->store = open_store(decided);
  const std::weak_ptr<Store> weak = both->store;
  both->registration = decided.budget->on_pressure(
      PressureOrder::kCache, "ram cache", [weak](std::int64_t bytes) -> std::int64_t {
        const std::shared_ptr<Store> store = weak.lock();
        return store == nullptr ? 0 : store->release(bytes);
      });
  return {both, both->store.get()};
}

}  // namespace brim
