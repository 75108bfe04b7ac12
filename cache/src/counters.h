#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "brim/cache/store.h"

namespace brim::detail {

/// The counting half of StoreStats, lock-free where readers pass.
class Counters {
 public:
  /// A lookup and whether it hit, which it gives back.
  bool count_lookup(bool hit) {
    (hit ? hits_ : misses_).fetch_add(1, std::memory_order_relaxed);
    return hit;
  }
  void damaged(std::int64_t count = 1) { damaged_.fetch_add(count, std::memory_order_relaxed); }

  PutResult count(PutResult result) {
    puts_.fetch_add(1, std::memory_order_relaxed);
    if (result == PutResult::Full || result == PutResult::Failed)
      rejected_.fetch_add(1, std::memory_order_relaxed);
    return result;
  }

  /// The first failure is the one that is shown; those that follow are mostly its consequences.
  void failed(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (last_error_.empty()) last_error_ = what;
  }

  void fill(StoreStats& stats) const {
    stats.hits = hits_.load(std::memory_order_relaxed);
    stats.misses = misses_.load(std::memory_order_relaxed);
    stats.puts = puts_.load(std::memory_order_relaxed);
    stats.rejected = rejected_.load(std::memory_order_relaxed);
    stats.damaged = damaged_.load(std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    stats.last_error = last_error_;
  }

 private:
  std::atomic<std::int64_t> hits_{0}, misses_{0}, puts_{0}, rejected_{0}, damaged_{0};
  mutable std::mutex mutex_;
  std::string last_error_;
};

}  // namespace brim::detail
