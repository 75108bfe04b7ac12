#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "brim/cache/store.h"
#include "brim/dataloader/statistics.h"

namespace brim::cli {

/// Says how a cache does: while it fills, images taken in per second, bytes held and the time left.
/// One thread.
class CacheProgress {
 public:
  using Clock = std::chrono::steady_clock;

  /// `store` may be null: then there is nothing to say. `images` of the data set.
  CacheProgress(std::shared_ptr<Store> store, std::int64_t images)
      : store_(std::move(store)), images_(images) {}

  /// "cache 34% hits, 310 MiB, +120 images/s, full in 2:10"; empty without a cache.
  std::string line(const LoaderStatistics& epoch, Clock::time_point now = Clock::now());
  /// "cache: 34.1% of the images came from it; it took 12 in and holds 35.0% of them in
  /// 310 MiB"; empty without a lookup.
  std::string epoch(const LoaderStatistics& epoch) const;

 private:
  struct Look {
    Clock::time_point at{};
    std::int64_t entries = 0;
  };
  /// Images that the cache will hold once it is full.
  std::int64_t wanted(const StoreStats& stats) const;
  double rate(const StoreStats& stats, Clock::time_point now);

  const std::shared_ptr<Store> store_;
  const std::int64_t images_;
  Look first_{}, last_{};  ///< what the rate is taken between
};

}  // namespace brim::cli
