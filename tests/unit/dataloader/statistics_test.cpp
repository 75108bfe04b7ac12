#include "brim/dataloader/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "brim/dataloader/loader.h"
#include "support/fake_data.h"

namespace brim {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

LoaderStatistics ten_seconds(double wait, double decode, double read) {
  LoaderStatistics s;
  s.samples = 1000;
  s.batches = 100;
  s.elapsed_ns = 10 * kSecond;
  s.workers = 2;
  s.consumer_wait_ns = static_cast<std::int64_t>(wait * 10 * kSecond);
  s.stages = {{"read", 1000, static_cast<std::int64_t>(read * kSecond), 0, 0, 0},
              {"decode", 1000, static_cast<std::int64_t>(decode * kSecond), 0, 0, 0}};
  return s;
}

TEST(Bottleneck, SplitsTheWaitAndCountsTheMissingCores) {
  EXPECT_EQ(bottleneck(ten_seconds(0.073, 14, 6)),
            "device waited 7.3%: 5.1% decode, 2.2% read; 1 more core would remove it");
  EXPECT_EQ(bottleneck(ten_seconds(0.6, 18, 2)),
            "device waited 60.0%: 54.0% decode, 6.0% read; 3 more cores would remove it");
}

TEST(Bottleneck, NamesStorageWhereReadingDominates) {
  EXPECT_THAT(bottleneck(ten_seconds(0.3, 4, 16)), testing::HasSubstr("a cache or faster storage"));
}

TEST(Bottleneck, SaysWhenTheLoaderSetsThePace) {
  EXPECT_THAT(bottleneck(ten_seconds(0.99, 19, 1)),
              testing::HasSubstr("each further core adds 50 images/s"));
}

TEST(Bottleneck, SaysWhenTheTrainerIsTheLimit) {
  LoaderStatistics s = ten_seconds(0.001, 4, 1);
  s.worker_idle_ns = 15 * kSecond;
  EXPECT_EQ(bottleneck(s),
            "device waited 0.1%: the trainer is the limit, the loader was busy 25.0% of its time");
  EXPECT_EQ(bottleneck({}), "no batch was delivered yet");
}

TEST(LoaderStatistics, OfSeveralLoadersAddUp) {
  LoaderStatistics sum;
  add_statistics({.samples = 8,
                  .batches = 2,
                  .elapsed_ns = 100,
                  .cache_hits = 3,
                  .workers = 2,
                  .stages = {{.name = "read", .items = 8, .busy_ns = 50}}},
                 sum);
  add_statistics({.samples = 4,
                  .batches = 1,
                  .elapsed_ns = 10,
                  .cache_misses = 1,
                  .workers = 3,
                  .stages = {{.name = "read", .items = 4, .busy_ns = 7, .p50_us = 2}}},
                 sum);
  EXPECT_EQ(sum.samples, 12);
  EXPECT_EQ(sum.batches, 3);
  EXPECT_EQ(sum.elapsed_ns, 110);
  EXPECT_EQ(sum.hit_rate(), 0.75);
  EXPECT_EQ(sum.workers, 3);
  ASSERT_EQ(sum.stages.size(), 1u);
  EXPECT_EQ(sum.stages[0].items, 12);
  EXPECT_EQ(sum.stages[0].busy_ns, 57);
  EXPECT_EQ(sum.stages[0].p50_us, 2);
}

TEST(LoaderStatistics, CountTheEpochAndNothingBeforeIt) {
  auto dataset = std::make_shared<test::MemoryDataset>(test::MemoryDataset::Settings{.size = 64});
  auto transform = std::make_shared<test::MixTransform>(
      test::MixTransform::Settings{.partners = 0, .on_apply = [](const Recipe&) {
                                     std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                   }});
  Loader loader(dataset, transform, {.batch_size = 8, .workers = 2, .order = Order::Sequential});
  for (int epoch : {0, 0}) {
    loader.start(epoch);
    while (loader.next()) {
    }
    const LoaderStatistics s = loader.statistics();
    EXPECT_EQ(s.samples, 64);
    EXPECT_EQ(s.batches, 8);
    EXPECT_EQ(s.workers, 2);
    EXPECT_EQ(s.decoded_bytes, 64 * 8 * 6 * 3);
    EXPECT_GT(s.elapsed_ns, 30'000'000);
    EXPECT_GT(s.consumer_wait_ns, s.elapsed_ns / 2);
    ASSERT_EQ(s.stages.size(), 4u);
    EXPECT_EQ(s.stages[2].name, "decode");
    EXPECT_EQ(s.stages[2].items, 64);
    EXPECT_EQ(s.stages[3].name, "augment");
    EXPECT_EQ(s.stages[3].items, 64);
    EXPECT_GE(s.stages[3].p50_us, 900);
    EXPECT_LE(s.stages[3].p50_us, s.stages[3].p99_us);
  }
}

}  // namespace
}  // namespace brim
