#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "brim/dataloader/statistics.h"

namespace brim::detail {

enum class Stage : std::uint8_t { Read, Cache, Decode, Augment };
inline constexpr std::size_t kStages = 4;
const char* stage_name(Stage stage);

inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Durations by logarithm, eight buckets per doubling (percentiles to about 5%).
inline constexpr std::size_t kBuckets = 48 * 8;

inline std::size_t bucket_of(std::int64_t ns) {
  const auto value = static_cast<std::uint64_t>(ns < 8 ? 8 : ns);
  const int octave = std::bit_width(value) - 1;
  const std::size_t eighth = (value >> (octave - 3)) & 7;
  const std::size_t bucket = static_cast<std::size_t>(octave - 3) * 8 + eighth;
  return bucket < kBuckets ? bucket : kBuckets - 1;
}

/// What one or several threads did in one stage.
struct StageCounts {
  std::int64_t items = 0;
  std::int64_t busy_ns = 0;
  std::array<std::int64_t, kBuckets> buckets{};
  double percentile_us(double share) const;
};

/// Counters of one worker: written by it alone, read by anyone, never locked.
class WorkerRecorder {
 public:
  void add(Stage stage, std::int64_t ns) {
    Counters& c = counters_[static_cast<std::size_t>(stage)];
    bump(c.items, 1);
    bump(c.busy_ns, ns);
    bump(c.buckets[bucket_of(ns)], 1);
  }
  void add_decoded(std::int64_t bytes) { bump(decoded_bytes_, bytes); }
  void add_hit() { bump(hits_, 1); }
  void add_miss() { bump(misses_, 1); }
  void add_kept(std::int64_t bytes) {
    bump(kept_, 1);
    bump(kept_bytes_, bytes);
  }
  void add_to(std::array<StageCounts, kStages>& totals, LoaderStatistics& sums) const;

 private:
  using Counter = std::atomic<std::int64_t>;
  struct Counters {
    Counter items{0}, busy_ns{0};
    std::array<Counter, kBuckets> buckets{};
  };
  static void bump(Counter& counter, std::int64_t by) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  std::array<Counters, kStages> counters_{};
  Counter decoded_bytes_{0}, hits_{0}, misses_{0}, kept_{0}, kept_bytes_{0};
};

/// Times one stage from construction to destruction.
class StageTimer {
 public:
  StageTimer(WorkerRecorder& recorder, Stage stage)
      : recorder_(recorder), stage_(stage), begin_(now_ns()) {}
  ~StageTimer() { recorder_.add(stage_, now_ns() - begin_); }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  WorkerRecorder& recorder_;
  Stage stage_;
  std::int64_t begin_;
};

}  // namespace brim::detail
