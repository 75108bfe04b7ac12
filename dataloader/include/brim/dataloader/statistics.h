#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace brim {

/// What one stage of the loader did. Times are summed over threads.
struct StageStatistics {
  std::string name;  ///< "read", "decode", "augment", "cache", "device"
  std::int64_t items = 0;
  std::int64_t busy_ns = 0;
  double p50_us = 0, p90_us = 0, p99_us = 0;  ///< per item
};

/// What a loader did since its epoch began.
struct LoaderStatistics {
  std::int64_t samples = 0;
  std::int64_t batches = 0;
  std::int64_t elapsed_ns = 0;
  std::int64_t consumer_wait_ns = 0;  ///< the trainer waited for a batch
  std::int64_t worker_idle_ns = 0;    ///< summed over workers: no work, queue full
  std::int64_t decoded_bytes = 0;
  std::int64_t cache_hits = 0, cache_misses = 0;
  std::int64_t cache_kept = 0, cache_kept_bytes = 0;  ///< values that the cache took in
  std::int64_t bad_samples = 0;
  double mean_ready_batches = 0;  ///< queue depth seen by the consumer
  int workers = 0;
  std::vector<StageStatistics> stages{};

  /// Share of the lookups that the cache answered; 0 without a lookup.
  double hit_rate() const {
    const std::int64_t all = cache_hits + cache_misses;
    return all > 0 ? static_cast<double>(cache_hits) / static_cast<double>(all) : 0;
  }
};

/// Adds `sign` times the counts and times of `more`; what is no sum (workers, percentiles, queue
/// depth) is that of `more`.
void add_statistics(const LoaderStatistics& more, LoaderStatistics& sum, int sign = 1);

/// One sentence saying what limited the run and what would remove it, e.g.
/// "device waited 7.3%: 5.1% decode, 2.2% read; 3 more cores would remove it".
std::string bottleneck(const LoaderStatistics& statistics);

}  // namespace brim
