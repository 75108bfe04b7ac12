#include "dataloader/src/fill_pacer.h"

#include <gtest/gtest.h>

namespace brim::detail {
namespace {

/// Values that take 1 ms to make and `keep_ns` to keep; the share of them that is kept.
double kept_share(FillPacer& pacer, std::int64_t keep_ns, int values) {
  int kept = 0;
  for (int i = 0; i < values; ++i) {
    const bool keep = pacer.may_fill();
    pacer.made(1'000'000, keep);
    if (keep) pacer.kept(keep_ns, 1'000'000, false);
    kept += keep ? 1 : 0;
  }
  return static_cast<double>(kept) / values;
}

TEST(FillPacer, TakesItsShareOfTheWorkWhereNothingIsIdle) {
  FillPacer pacer(0.03);
  EXPECT_NEAR(kept_share(pacer, 300'000, 10000), 0.1, 0.01);
}

TEST(FillPacer, TakesMoreInEachFurtherEpoch) {
  FillPacer pacer(0.03);
  pacer.next_epoch();
  EXPECT_NEAR(kept_share(pacer, 300'000, 10000), 0.8, 0.02);
  pacer.next_epoch();
  EXPECT_EQ(kept_share(pacer, 300'000, 10000), 1.0);
}

TEST(FillPacer, KeepsEverythingWhileWorkersWait) {
  FillPacer pacer(0.03);
  for (int i = 0; i < 100; ++i) {
    pacer.waited(1'000'000);
    EXPECT_TRUE(pacer.may_fill());
    pacer.kept(900'000, 1'000'000, false);
  }
}

TEST(FillPacer, DoesNotSaveUpIdleTimeForLong) {
  FillPacer pacer(0.0);
  pacer.waited(3'600'000'000'000);
  EXPECT_LT(kept_share(pacer, 1'000'000, 1000), 0.25);
}

TEST(FillPacer, CountsWhatMakingAllOfAnImageCostsBeyondAPart) {
  FillPacer pacer(0.0);
  for (int i = 0; i < 200; ++i) pacer.made(1'000'000, false);
  pacer.waited(10'000'000);
  int kept = 0;
  while (pacer.may_fill()) {
    pacer.made(2'000'000, true);
    pacer.kept(0, 2'000'000, true);
    ++kept;
  }
  EXPECT_NEAR(kept, 10, 1);
}

TEST(FillPacer, CountsWhatTheStoreDoesBehind) {
  FillPacer pacer(0.03, 5'000'000'000);
  std::int64_t background = 5'000'000'000;
  int kept = 0;
  for (int i = 0; i < 10000; ++i) {
    pacer.kept_behind(background);
    const bool keep = pacer.may_fill();
    pacer.made(1'000'000, keep);
    if (!keep) continue;
    pacer.kept(100'000, 1'000'000, false);
    if (++kept % 10 == 0) background += 2'000'000;  // a batch at a time
  }
  EXPECT_NEAR(kept, 1000, 30);
}

TEST(FillPacer, KeepsEverythingAtOnceWhenAskedTo) {
  FillPacer pacer(1);
  EXPECT_EQ(kept_share(pacer, 5'000'000, 100), 1.0);
}

}  // namespace
}  // namespace brim::detail
