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
  // An image takes 0.0408 s at 64 and 0.0416 s, 2% more, at 32; 16 takes 6% more.
  EXPECT_EQ(plan.batch, 32);
  EXPECT_EQ(plan.accumulate, 2);
  EXPECT_EQ(device.probes, 2);  // the model holds at twice the largest probe, far below the budget
  EXPECT_EQ(plan.predicted_peak_bytes, device.constant + 32 * device.slope);
}

TEST(ChooseBatch, VerifiesAChoiceThatComesNearTheBudget) {
  FakeDevice device;
  const BatchPlan plan = choose_batch({}, {.byte_budget = 1300 * kMiB}, device.probe());
  EXPECT_EQ(plan.batch, 32);
  EXPECT_EQ(device.probes, 3);
  EXPECT_EQ(plan.measured_peak_bytes, device.constant + 32 * device.slope);
}

TEST(ChooseBatch, StaysBeforeACliffInTheTimeOfAStep) {
  FakeDevice device;
  const auto with_cliff = [&](std::int64_t batch) {
    Measurement m = device.probe()(batch);
    if (batch > 16) m.seconds_per_step *= 1.2;
    return m;
  };
  const BatchPlan plan = choose_batch({}, {.byte_budget = 1300 * kMiB}, with_cliff);
  EXPECT_EQ(plan.batch, 16);
  EXPECT_EQ(plan.accumulate, 4);
}

TEST(ChooseBatch, CountsTheOptimiserOncePerNominalBatch) {
  FakeDevice device;
  device.step_constant = 0;
  const auto with_optimizer = [&](std::int64_t batch) {
    Measurement m = device.probe()(batch);
    m.optimizer_seconds = 0.64;
    return m;
  };
  const BatchPlan plan = choose_batch({}, {.byte_budget = 16LL << 30}, with_optimizer);
  EXPECT_EQ(plan.batch, 16);  // a costly optimiser is no reason for larger micro-batches
  EXPECT_NEAR(plan.predicted_images_per_second, 64 / (64 * 0.04 + 0.64), 1e-6);
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

TEST(ChooseBatch, LeavesRoomForTheLoaderOfItsBatchAndForWhatTheProbeLacks) {
  FakeDevice device;
  const auto probe = [&](std::int64_t batch) {
    Measurement m = device.probe()(batch);
    m.idle_bytes = 100 * kMiB;
    m.reserved_peak_bytes = m.resident_peak_bytes - 150 * kMiB;
    return m;
  };
  Goal goal{.byte_budget = 900 * kMiB, .safety = 0};
  const BatchPlan plain = choose_batch({}, goal, probe);
  EXPECT_EQ(plain.program_bytes, 150 * kMiB);
  goal.reserved_for_loader = device.slope;
  goal.loader_bytes_per_image = device.slope;  // an image takes twice as much
  goal.own_bytes = 100 * kMiB + device.slope;
  const BatchPlan plan = choose_batch({}, goal, probe);
  EXPECT_EQ(plan.largest_batch, (plain.largest_batch - 2) / 2);
  EXPECT_EQ(plan.predicted_peak_bytes, device.constant + (2 + 2 * plan.batch) * device.slope);
  EXPECT_EQ(plan.program_bytes, 150 * kMiB + device.slope);
}

TEST(ChooseBatch, KnowsWhatSmallBatchesTakeWhereTheFirstProbeIsTooLarge) {
  for (const bool survives : {true, false}) {
    FakeDevice device;  // batch 4 takes 320 MiB, in a probe that may have more than the budget
    if (!survives) device.limit = 319 * kMiB;
    for (const std::int64_t most : {1, 2, 3}) {
      device.probes = 0;
      const std::int64_t budget = device.constant + device.slope * most + device.slope / 2;
      const BatchPlan plan = choose_batch({}, {.byte_budget = budget, .safety = 0}, device.probe());
      EXPECT_EQ(plan.batch, most);
      EXPECT_EQ(plan.predicted_peak_bytes, device.constant + device.slope * most);
      EXPECT_LE(device.probes, 3);
    }
    const std::int64_t budget = device.constant + device.slope / 2;
    EXPECT_THROW(choose_batch({}, {.byte_budget = budget, .safety = 0}, device.probe()), Error);
  }
}

TEST(ChooseBatch, LearnsWhatDoesNotGrowWhereOnlyTheFirstProbeFits) {
  FakeDevice device;  // batch 4 takes 320 MiB
  device.limit = 600 * kMiB;
  const std::int64_t budget = device.constant + 6 * device.slope + 1;
  const BatchPlan plan = choose_batch({}, {.byte_budget = budget, .safety = 0}, device.probe());
  EXPECT_EQ(plan.batch, 6);
  EXPECT_EQ(plan.predicted_peak_bytes, device.constant + 6 * device.slope);
  EXPECT_EQ(device.probes, 3);
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

ProbeProcessOptions shell(const std::string& script, double timeout_seconds = 10) {
  return {.executable = "/bin/sh", .arguments = {"-c", script}, .timeout_seconds = timeout_seconds};
}

TEST(ProbeProcess, AsksOneChildForOneBatchAfterAnother) {
  Measurement written;
  written.outcome = Outcome::Fits;
  written.resident_peak_bytes = 123456789;
  written.trace = {64, 128, -1, -2};
  // Answers with its own process id as the tensor peak.
  const std::string line = to_json(written), key = "\"tensor_peak_bytes\":";
  const std::size_t at = line.find(key) + key.size();
  const std::string script =
      "while read batch; do echo '" + line.substr(0, at) + "'$$'" + line.substr(at + 1) + "'; done";
  ProbeProcess probe(shell(script));
  const Measurement first = probe.measure(9), second = probe.measure(10);
  EXPECT_EQ(first.outcome, Outcome::Fits);
  EXPECT_EQ(first.resident_peak_bytes, 123456789);
  EXPECT_EQ(first.trace, written.trace);
  EXPECT_GT(first.wall_seconds, 0);
  EXPECT_GT(first.tensor_peak_bytes, 0);
  EXPECT_EQ(first.tensor_peak_bytes, second.tensor_peak_bytes);
}

TEST(ProbeProcess, AChildThatDiesIsReplacedForTheNextBatch) {
  Measurement written;
  written.outcome = Outcome::Fits;
  ProbeProcess probe(shell("read batch; [ $batch = 16 ] && kill -9 $$; echo '" + to_json(written) +
                           "'; read batch; kill -9 $$"));
  EXPECT_EQ(probe.measure(4).outcome, Outcome::Fits);
  EXPECT_EQ(probe.measure(16).outcome, Outcome::Died);
  EXPECT_EQ(probe.measure(8).outcome, Outcome::Fits);
}

TEST(ProbeProcess, EveryWayToDieIsAnOutcome) {
  const auto measured = [](const std::string& script, double timeout) {
    return ProbeProcess(shell(script, timeout)).measure(1);
  };
  EXPECT_EQ(measured("kill -9 $$", 10).outcome, Outcome::Died);
  EXPECT_THAT(measured("kill -9 $$", 10).detail, HasSubstr("Killed"));
  EXPECT_THAT(measured("exit 3", 10).detail, HasSubstr("exit code 3"));
  EXPECT_THAT(measured("sleep 20", 0.2).detail, HasSubstr("took longer"));
  EXPECT_THAT(measured("echo no measurement; sleep 20", 10).detail, HasSubstr("no measurement"));
  EXPECT_EQ(ProbeProcess({.executable = "/nowhere/brim"}).measure(1).outcome, Outcome::Died);
}

}  // namespace
}  // namespace brim::autotune
