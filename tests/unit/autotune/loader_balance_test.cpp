#include "brim/autotune/loader_balance.h"

#include <gtest/gtest.h>

namespace brim::autotune {
namespace {

/// A trainer of 10 ms per step and a loader whose workers take `load` seconds per batch each.
struct Training {
  double load = 0.018;
  LoaderBalance balance;
  int changes = 0;

  void steps(int count) {
    for (int i = 0; i < count; ++i) {
      const double batch = load / balance.setting().workers;
      if (balance.step(16, 0.010, std::max(0.0, batch - 0.010))) ++changes;
    }
  }
};

LoaderBalanceOptions quick(int most_workers) {
  return {.most_workers = most_workers, .settle_steps = 2, .window_steps = 10};
}

TEST(LoaderBalance, AddsWorkersUntilTheTrainerWaitsNoMore) {
  Training run{.load = 0.035, .balance = LoaderBalance({1, 2}, quick(8))};
  run.steps(400);
  EXPECT_EQ(run.balance.setting().workers, 4);
}

TEST(LoaderBalance, TakesAWorkerAwayThatNobodyNeeds) {
  Training run{.load = 0.009, .balance = LoaderBalance({4, 2}, quick(8))};
  run.steps(1000);
  EXPECT_EQ(run.balance.setting().workers, 1);
}

TEST(LoaderBalance, RestsLongerEachTimeAChangeDidNotPay) {
  // Two workers are just enough and one is too few: without memory it would swing for ever.
  Training run{.load = 0.019, .balance = LoaderBalance({2, 2}, quick(8))};
  run.steps(2000);
  const int early = run.changes;
  run.steps(2000);
  EXPECT_LE(run.changes - early, early / 2);
  EXPECT_EQ(run.balance.setting().workers, 2);
}

TEST(LoaderBalance, TakesBackWhatBringsNothing) {
  LoaderBalance balance({1, 2}, quick(2));
  int most = 1;
  for (int i = 0; i < 200; ++i) {
    balance.step(16, 0.010, 0.010);  // a slow disk: more workers change nothing
    most = std::max(most, balance.setting().workers);
  }
  EXPECT_EQ(most, 2);
  EXPECT_EQ(balance.setting(), (LoaderSetting{1, 2}));
}

TEST(LoaderBalance, AcceptsWhatMemoryPressureHasSet) {
  LoaderBalance balance({4, 4}, quick(8));
  balance.set({2, 1});
  EXPECT_EQ(balance.setting(), (LoaderSetting{2, 1}));
  EXPECT_EQ(balance.changes(), 0);
}

}  // namespace
}  // namespace brim::autotune
