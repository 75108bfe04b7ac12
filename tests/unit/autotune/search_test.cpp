#include "brim/autotune/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "brim/autotune/probe_process.h"
#include "brim/cache/error.h"

namespace brim::autotune {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kMiB = 1 << 20;

/// A device whose memory and step time are affine, with a hard limit.
struct FakeDevice {
  std::int64_t constant = 200 * kMiB, slope = 30 * kMiB, limit = 64LL << 30;
  double step_constant = 0.05, step_slope = 0.04;
  int probes = 0;
  Probe probe() {
    return [this](std::int64_t batch) {
      ++probes;
      Measurement m;
      m.batch = batch;
      m.resident_peak_bytes = constant + slope * batch;
      m.outcome = m.resident_peak_bytes > limit ? Outcome::OutOfMemory : Outcome::Fits;
      m.detail = m.outcome == Outcome::Fits ? "" : "over the cap";
      m.seconds_per_step = step_constant + step_slope * static_cast<double>(batch);
      return m;
    };
  }
};

TEST(AffineFit, RecoversALine) {
  const AffineFit fit = fit_affine({2, 4, 8}, {7, 11, 19});
  EXPECT_NEAR(fit.constant, 3, 1e-9);
  EXPECT_NEAR(fit.slope, 2, 1e-9);
  EXPECT_NEAR(fit.relative_error, 0, 1e-9);
}

TEST(ChooseBatch, TakesTheSmallestBatchNearTheBestThroughput) {
  FakeDevice device;
  const BatchPlan plan = choose_batch({}, {.byte_budget = 16LL << 30}, device.probe());
  // within 3% of 1 / 0.04: b >= 0.97 * 0.05 / (0.03 * 0.04) = 40.4, next divisor of 64 is 64
  EXPECT_EQ(plan.batch, 64);
  EXPECT_EQ(plan.accumulate, 1);
  EXPECT_LE(device.probes, 3);
  EXPECT_EQ(plan.measured_peak_bytes, device.constant + 64 * device.slope);
}

TEST(ChooseBatch, NeverGoesBelowTheBatchNormFloorForSpeed) {
  FakeDevice device;
  device.step_constant = 0.0;
  const BatchPlan plan = choose_batch({}, {.byte_budget = 16LL << 30}, device.probe());
  EXPECT_EQ(plan.batch, 16);
  EXPECT_EQ(plan.accumulate, 4);
  EXPECT_TRUE(plan.warnings.empty());
}

TEST(ChooseBatch, StaysWithinTheBudgetAndWarnsBelowTheFloor) {
  FakeDevice device;
  const Goal goal{.byte_budget = 500 * kMiB, .reserved_for_loader = 50 * kMiB};
  const BatchPlan plan = choose_batch({}, goal, device.probe());
  EXPECT_EQ(plan.batch, 8);
  EXPECT_LE(plan.predicted_peak_bytes, goal.byte_budget);
  EXPECT_THAT(plan.why, HasSubstr("memory"));
  ASSERT_EQ(plan.warnings.size(), 1u);
  EXPECT_THAT(plan.warnings[0], HasSubstr("batch-normalisation"));
}

TEST(ChooseBatch, ADeadProbeMeansItDoesNotFit) {
  FakeDevice device;
  device.limit = 400 * kMiB;  // the first probe (4) fits, the second (16) dies
  const BatchPlan plan = choose_batch({}, {.byte_budget = 16LL << 30}, device.probe());
  EXPECT_LT(plan.batch, 16);
  EXPECT_GE(plan.batch, 1);
}

TEST(ChooseBatch, RefusesABudgetTooSmallForOneImageWithTheAccount) {
  FakeDevice device;
  device.limit = 100 * kMiB;
  try {
    choose_batch({}, {.byte_budget = 100 * kMiB}, device.probe());
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("too small for one image"));
    EXPECT_THAT(error.what(), HasSubstr("100.0 MiB"));
    EXPECT_THAT(error.what(), HasSubstr("hint: lower train.img"));
  }
}

TEST(ChooseBatch, AUsersOwnBatchIsOnlyVerified) {
  FakeDevice device;
  const BatchPlan plan =
      choose_batch({}, {.byte_budget = 16LL << 30, .fixed_batch = 24}, device.probe());
  EXPECT_EQ(plan.batch, 24);
  EXPECT_EQ(device.probes, 1);
}

TEST(ProbeProcess, ReadsTheLastLineOfAChild) {
  Measurement written;
  written.batch = 9;
  written.outcome = Outcome::Fits;
  written.resident_peak_bytes = 123456789;
  written.seconds_per_step = 0.25;
  const std::string script = "echo noise; echo '" + to_json(written) + "'";
  const Measurement read =
      run_probe_process({.executable = "/bin/sh", .arguments = {"-c", script}}, 9);
  EXPECT_EQ(read.outcome, Outcome::Fits);
  EXPECT_EQ(read.resident_peak_bytes, 123456789);
  EXPECT_EQ(read.seconds_per_step, 0.25);
  EXPECT_GT(read.wall_seconds, 0);
}

TEST(ProbeProcess, EveryWayToDieIsAnOutcome) {
  const auto outcome_of = [](const std::string& script, double timeout) {
    return run_probe_process(
        {.executable = "/bin/sh", .arguments = {"-c", script}, .timeout_seconds = timeout}, 1);
  };
  EXPECT_EQ(outcome_of("kill -9 $$", 10).outcome, Outcome::Died);
  EXPECT_THAT(outcome_of("kill -9 $$", 10).detail, HasSubstr("Killed"));
  EXPECT_THAT(outcome_of("exit 3", 10).detail, HasSubstr("exit code 3"));
  EXPECT_THAT(outcome_of("sleep 20", 0.2).detail, HasSubstr("took longer"));
  EXPECT_EQ(run_probe_process({.executable = "/nowhere/brim"}, 1).outcome, Outcome::Died);
}

}  // namespace
}  // namespace brim::autotune
