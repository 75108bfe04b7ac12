#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <utility>

#include "brim/cache/stores.h"

namespace brim {
namespace {

using Clock = std::chrono::steady_clock;

/// Passes everything on, and compares what a hit takes with what making the value took.
class WatchedStore final : public Store {
 public:
  WatchedStore(std::shared_ptr<Store> inner, const WatchOptions& options)
      : inner_(std::move(inner)), options_(options) {
    if (options_.expected_cost_ns > 0) {
      cost_ns_ = options_.expected_cost_ns * kCostsKept;
      costs_ = kCostsKept;
    }
  }

  bool get(const CacheKey& key, Blob& blob) override {
    if (dropped_.load(std::memory_order_relaxed)) return false;
    const Clock::time_point begin = Clock::now();
    const bool hit = inner_->get(key, blob);
    if (hit) note_hit(nanoseconds_since(begin));
    return hit;
  }

  PutResult put(const CacheKey& key, std::span<const std::byte> value,
                std::int64_t cost_ns) override {
    if (dropped_.load(std::memory_order_relaxed)) return PutResult::Full;
    {
      const std::lock_guard lock(mutex_);
      if (costs_ == kCostsKept) {  // a moving mean
        cost_ns_ -= cost_ns_ / kCostsKept;
        --costs_;
      }
      cost_ns_ += cost_ns;
      ++costs_;
    }
    return inner_->put(key, value, cost_ns);
  }

  bool contains(const CacheKey& key) const override { return !dropped_ && inner_->contains(key); }
  void will_need(std::span<const CacheKey> keys) override {
    if (!dropped_) inner_->will_need(keys);
  }
  void flush() override { inner_->flush(); }
  std::int64_t release(std::int64_t bytes) override { return inner_->release(bytes); }
  std::vector<CacheKey> keys() const override { return inner_->keys(); }

  StoreStats stats() const override {
    StoreStats stats = inner_->stats();
    const std::lock_guard lock(mutex_);
    if (!why_.empty()) stats.last_error = why_;
    return stats;
  }

  std::int64_t background_ns() const override { return inner_->background_ns(); }

  std::string describe() const override {
    return dropped_ ? "none (dropped: " + inner_->describe() + ")" : inner_->describe();
  }

 private:
  static constexpr std::int64_t kCostsKept = 1024;

  static std::int64_t nanoseconds_since(Clock::time_point begin) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
  }

  void note_hit(std::int64_t took_ns) {
    const std::lock_guard lock(mutex_);
    hit_ns_ += took_ns;
    if (++hits_ < options_.hits_per_check) return;
    const double hit = static_cast<double>(hit_ns_) / static_cast<double>(hits_);
    hit_ns_ = hits_ = 0;
    if (costs_ < options_.least_costs) return;
    const double cost = static_cast<double>(cost_ns_) / static_cast<double>(costs_);
    // One slow stretch may be the machine; several in a row are the cache.
    slow_checks_ = hit > cost * (1 + options_.tolerance) ? slow_checks_ + 1 : 0;
    if (slow_checks_ < options_.slow_checks || dropped_.exchange(true)) return;
    char text[160];
    std::snprintf(text, sizeof text,
                  "the cache is no longer used: a hit takes %.2f ms, without it an image takes "
                  "%.2f ms",
                  hit * 1e-6, cost * 1e-6);
    why_ = text;
    inner_->release(inner_->stats().bytes);
  }

  const std::shared_ptr<Store> inner_;
  const WatchOptions options_;
  std::atomic<bool> dropped_{false};
  mutable std::mutex mutex_;
  std::int64_t cost_ns_ = 0, costs_ = 0;
  std::int64_t hit_ns_ = 0, hits_ = 0;
  int slow_checks_ = 0;
  std::string why_;
};

}  // namespace

std::shared_ptr<Store> make_watched_store(std::shared_ptr<Store> inner,
                                          const WatchOptions& options) {
  if (inner == nullptr) return nullptr;
  return std::make_shared<WatchedStore>(std::move(inner), options);
}

}  // namespace brim
