#include "train/cli/src/cache_progress.h"

#include <gtest/gtest.h>

#include <span>

namespace brim::cli {
namespace {

/// A store of which only the numbers matter.
class Numbers final : public Store {
 public:
  StoreStats now;
  bool get(const CacheKey&, Blob&) override { return false; }
  PutResult put(const CacheKey&, std::span<const std::byte>, std::int64_t) override {
    return PutResult::Full;
  }
  bool contains(const CacheKey&) const override { return false; }
  StoreStats stats() const override { return now; }
  std::string describe() const override { return "numbers"; }
};

constexpr std::int64_t kMiB = 1 << 20;

TEST(CacheProgress, SaysNothingWithoutACache) {
  CacheProgress progress(nullptr, 100);
  EXPECT_EQ(progress.line({}), "");
  EXPECT_EQ(progress.epoch({}), "");
}

TEST(CacheProgress, TellsTheRateAndTheTimeLeftWhileItFills) {
  const auto store = std::make_shared<Numbers>();
  CacheProgress progress(store, 1000);
  const auto start = CacheProgress::Clock::now();
  const LoaderStatistics epoch{.cache_hits = 1, .cache_misses = 3};
  EXPECT_EQ(progress.line(epoch, start), "cache 25% hits, 0 B");
  store->now.entries = 200;
  store->now.bytes = 200 * kMiB;
  EXPECT_EQ(progress.line(epoch, start + std::chrono::seconds(4)),
            "cache 25% hits, 200.0 MiB, +50 images/s, full in 16 s");
}

TEST(CacheProgress, ReckonsWithTheByteLimit) {
  const auto store = std::make_shared<Numbers>();
  store->now.byte_limit = 400 * kMiB;
  CacheProgress progress(store, 1000);
  const auto start = CacheProgress::Clock::now();
  EXPECT_EQ(progress.line({}, start), "cache 0% hits, 0 B");
  store->now.entries = 200;
  store->now.bytes = 200 * kMiB;
  EXPECT_EQ(progress.line({}, start + std::chrono::seconds(4)),
            "cache 0% hits, 200.0 MiB, +50 images/s, full in 4 s");
  store->now.entries = 396;
  store->now.bytes = 396 * kMiB;
  EXPECT_EQ(progress.line({}, start + std::chrono::seconds(8)), "cache 0% hits, 396.0 MiB")
      << "it is full but for a rest";
}

TEST(CacheProgress, SumsUpTheEpoch) {
  const auto store = std::make_shared<Numbers>();
  store->now.entries = 350;
  store->now.bytes = 310 * kMiB;
  const CacheProgress progress(store, 1000);
  EXPECT_EQ(progress.epoch({.cache_hits = 341, .cache_misses = 659, .cache_kept = 9}),
            "cache: 34.1% of the images came from it; it took 9 in and holds 35.0% of them in "
            "310.0 MiB");
}

}  // namespace
}  // namespace brim::cli
