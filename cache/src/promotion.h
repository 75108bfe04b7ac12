#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "brim/cache/key.h"
#include "key_map.h"

namespace brim::detail {

/// Decides which values a fast tier takes over from a slow one: those whose reading takes longest
/// for their size, so that a byte of the fast tier saves the most. It watches until a quarter of
/// the values has come round again, which is early in the second epoch; by then it knows how much
/// there is and what a byte costs, and sets the price that fills the fast tier exactly. Afterwards
/// the price halves with every further round, so that no room stays empty. A set so small that
/// nothing needs choosing is taken at once. Any thread.
class Promotion {
 public:
  /// `room` gives the bytes that the fast tier may hold in all.
  explicit Promotion(std::function<std::int64_t()> room) : room_(std::move(room)) {}

  /// The slow tier took a value in. True: the fast one should as well.
  bool was_put(const CacheKey& key, std::size_t bytes) { return look(key, bytes, kUnknown); }
  /// The slow tier took `ns` to give a value. True: the fast one should have it.
  bool was_read(const CacheKey& key, std::size_t bytes, std::int64_t ns) {
    return look(key, bytes, static_cast<double>(ns) / static_cast<double>(bytes + 1));
  }
  bool is_decided() const { return decided_.load(std::memory_order_acquire); }
  /// Nanoseconds per byte from which a value is taken; 0: every one.
  double price() const { return price_.load(std::memory_order_relaxed); }

 private:
  static constexpr double kUnknown = -1;
  struct Seen {
    double price = kUnknown;
    std::uint32_t bytes = 0;
    bool again = false;
  };

  bool look(const CacheKey& key, std::size_t bytes, double per_byte);
  bool watch(const CacheKey& key, std::size_t bytes, double per_byte);
  bool is_sampled(const CacheKey& key) const { return (key.low >> 8 & mask_) == 0; }
  void thin_out();
  void decide();

  const std::function<std::int64_t()> room_;
  std::atomic<bool> decided_{false};
  std::atomic<double> price_{0};
  std::atomic<std::int64_t> looks_{0};
  std::int64_t round_ = 0;  ///< values in all; set when decided
  std::mutex mutex_;        ///< what follows
  KeyMap<Seen> seen_;       ///< of one key in mask_ + 1
  std::uint64_t mask_ = 0;
  std::int64_t again_ = 0, seen_bytes_ = 0;
};

}  // namespace brim::detail
