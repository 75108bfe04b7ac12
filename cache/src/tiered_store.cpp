#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "brim/cache/stores.h"
#include "counters.h"
#include "promotion.h"

namespace brim {
namespace {

class TieredStore final : public Store {
 public:
  TieredStore(std::shared_ptr<Store> fast, std::shared_ptr<Store> slow,
              std::shared_ptr<MemoryBudget> budget)
      : fast_(std::move(fast)),
        slow_(std::move(slow)),
        budget_(std::move(budget)),
        promotion_([this] { return room(); }) {}

  bool get(const CacheKey& key, Blob& blob) override {
    if (fast_->get(key, blob)) return counters_.count_lookup(true);
    const Clock::time_point begin = Clock::now();
    const bool found = slow_->get(key, blob);
    const std::chrono::nanoseconds took = Clock::now() - begin;
    if (found && promotion_.was_read(key, blob.bytes.size(), took.count()))
      fast_->put(key, blob.bytes, took.count());
    return counters_.count_lookup(found);
  }

  PutResult put(const CacheKey& key, std::span<const std::byte> value,
                std::int64_t cost_ns) override {
    const PutResult slow = slow_->put(key, value, cost_ns);
    // The slow tier outlives the fast one, so its word counts where it keeps the value.
    if (holds(slow)) {
      if (promotion_.was_put(key, value.size())) fast_->put(key, value, cost_ns);
      return counters_.count(slow);
    }
    const PutResult fast = fast_->put(key, value, cost_ns);  // saves making the value: all there is
    if (holds(fast)) return counters_.count(fast);
    const bool full = slow == PutResult::Full || fast == PutResult::Full;
    return counters_.count(full ? PutResult::Full : PutResult::Failed);
  }

  bool contains(const CacheKey& key) const override {
    return fast_->contains(key) || slow_->contains(key);
  }

  void will_need(std::span<const CacheKey> keys) override {
    std::vector<CacheKey> missing;
    missing.reserve(keys.size());
    for (const CacheKey& key : keys)
      if (!fast_->contains(key)) missing.push_back(key);
    fast_->will_need(keys);
    slow_->will_need(missing);
  }

  void flush() override {
    fast_->flush();
    slow_->flush();
  }

  std::int64_t release(std::int64_t bytes) override {
    const std::int64_t freed = fast_->release(bytes);
    return freed >= bytes ? freed : freed + slow_->release(bytes - freed);
  }

  std::vector<CacheKey> keys() const override {
    std::vector<CacheKey> all = slow_->keys();
    for (const CacheKey& key : fast_->keys())
      if (!slow_->contains(key)) all.push_back(key);
    return all;
  }

  StoreStats stats() const override {
    const StoreStats fast = fast_->stats();
    const StoreStats slow = slow_->stats();
    StoreStats stats;
    counters_.fill(stats);
    stats.entries = std::max(fast.entries, slow.entries);
    stats.bytes = fast.bytes + slow.bytes;
    stats.byte_limit =
        fast.byte_limit > 0 && slow.byte_limit > 0 ? fast.byte_limit + slow.byte_limit : 0;
    stats.damaged = fast.damaged + slow.damaged;
    stats.last_error = fast.last_error.empty() ? slow.last_error : fast.last_error;
    return stats;
  }

  std::int64_t background_ns() const override {
    return fast_->background_ns() + slow_->background_ns();
  }

  std::string describe() const override { return fast_->describe() + " over " + slow_->describe(); }

 private:
  using Clock = std::chrono::steady_clock;

  static bool holds(PutResult result) {
    return result == PutResult::Stored || result == PutResult::AlreadyThere;
  }

  /// Bytes that the fast tier may hold.
  std::int64_t room() const {
    const StoreStats stats = fast_->stats();
    if (stats.byte_limit > 0) return stats.byte_limit;
    return budget_ != nullptr ? stats.bytes + budget_->available() : INT64_MAX;
  }

  const std::shared_ptr<Store> fast_, slow_;
  const std::shared_ptr<MemoryBudget> budget_;
  detail::Promotion promotion_;
  detail::Counters counters_;
};

}  // namespace

std::shared_ptr<Store> make_tiered_store(std::shared_ptr<Store> fast, std::shared_ptr<Store> slow,
                                         std::shared_ptr<MemoryBudget> budget) {
  return std::make_shared<TieredStore>(std::move(fast), std::move(slow), std::move(budget));
}

}  // namespace brim
