#include "brim/train/schedule.h"

#include <gtest/gtest.h>

namespace brim::test {
namespace {

ScheduleOptions run_of(std::int64_t epochs, std::int64_t batches) {
  return {.epochs = epochs, .batches_per_epoch = batches, .batch_size = 16};
}

TEST(Schedule, WarmUpIsAtLeastAHundredSteps) {
  EXPECT_EQ(warmup_steps(run_of(10, 5)), 100);
  EXPECT_EQ(warmup_steps(run_of(10, 200)), 600);
}

TEST(Schedule, BiasesFallAndTheRestRisesDuringWarmUp) {
  const auto options = run_of(10, 100);
  for (std::int64_t step = 1; step < 300; ++step) {
    if (step % 100 == 0) continue;
    EXPECT_LT(schedule_at(options, step).lr_bias, schedule_at(options, step - 1).lr_bias);
    EXPECT_GT(schedule_at(options, step).lr_weight, schedule_at(options, step - 1).lr_weight);
    EXPECT_GT(schedule_at(options, step).momentum, schedule_at(options, step - 1).momentum);
  }
  const auto after = schedule_at(options, 300);
  EXPECT_EQ(after.lr_bias, after.lr_weight);
  EXPECT_EQ(after.momentum, 0.937);
  EXPECT_EQ(after.accumulate, 4);
}

TEST(Schedule, WithoutWarmUpBeginsInFull) {
  auto options = run_of(10, 100);
  options.warmup_epochs = 0;
  EXPECT_EQ(schedule_at(options, 0).lr_bias, 0.01);
  EXPECT_EQ(schedule_at(options, 0).accumulate, 4);
}

TEST(Schedule, FallsToTheFinalFraction) {
  auto options = run_of(50, 100);
  for (const bool cosine : {false, true}) {
    options.cosine = cosine;
    EXPECT_NEAR(decay_factor(options, 0), 1, 1e-12);
    EXPECT_NEAR(decay_factor(options, 50), options.lrf, 1e-12);
    for (std::int64_t e = 1; e <= 50; ++e) {
      EXPECT_LT(decay_factor(options, e), decay_factor(options, e - 1));
    }
  }
}

TEST(Schedule, FallsWithinAnEpochWhenAskedTo) {
  auto options = run_of(2, 100);
  options.warmup_epochs = 0;
  EXPECT_EQ(schedule_at(options, 99).lr_weight, schedule_at(options, 0).lr_weight);
  options.decay = Decay::PerStep;
  for (std::int64_t step = 1; step < 200; ++step)
    EXPECT_LT(schedule_at(options, step).lr_weight, schedule_at(options, step - 1).lr_weight);
  EXPECT_NEAR(schedule_at(options, 199).lr_weight, options.lr0 * options.lrf, options.lr0 * 0.006);
}

TEST(Schedule, FallsOneEpochLateWhenAskedTo) {
  auto options = run_of(20, 19);  // warm-up is 100 steps and ends within epoch 5
  options.decay = Decay::PerEpochLate;
  const auto rate = [&](std::int64_t epoch, std::int64_t batch) {
    return schedule_at(options, epoch * 19 + batch).lr_weight;
  };
  const auto after = [&](double epochs) { return options.lr0 * decay_factor(options, epochs); };
  EXPECT_DOUBLE_EQ(rate(5, 5), after(5));
  EXPECT_DOUBLE_EQ(rate(5, 18), after(5));
  EXPECT_DOUBLE_EQ(rate(6, 0), after(5));
  EXPECT_DOUBLE_EQ(rate(19, 18), after(18));
  options.decay = Decay::PerEpoch;
  EXPECT_DOUBLE_EQ(rate(6, 0), after(6));
}

TEST(Schedule, NeverAccumulatesLessThanOne) {
  auto options = run_of(10, 10);
  options.batch_size = 256;
  for (std::int64_t step = 0; step < 100; ++step) {
    EXPECT_EQ(schedule_at(options, step).accumulate, 1);
  }
}

TEST(AccumulationWindow, ClosesAfterEveryFullWindowAcrossEpochs) {
  AccumulationWindow window;
  std::vector<std::int64_t> closed;
  for (std::int64_t step = 0; step < 10; ++step) {
    if (window.closes(step, 4)) closed.push_back(step);
  }
  EXPECT_EQ(closed, (std::vector<std::int64_t>{3, 7}));
}

TEST(AccumulationWindow, GoesOnWhereAStoppedRunEnded) {
  AccumulationWindow window(7);
  EXPECT_FALSE(window.closes(10, 4));
  EXPECT_TRUE(window.closes(11, 4));
  EXPECT_EQ(window.last_step(), 11);
}

}  // namespace
}  // namespace brim::test
