#include "brim/autotune/memory_model.h"

#include <gtest/gtest.h>

#include <utility>

namespace brim::autotune {
namespace {

constexpr std::int64_t kMebibyte = 1 << 20;

/// A probe that fitted, with what `trace` takes and 100 MiB besides.
Measurement measurement_of(std::int64_t batch, AllocationTrace trace) {
  Measurement m;
  m.batch = batch;
  m.outcome = Outcome::Fits;
  m.trace = std::move(trace);
  m.reserved_peak_bytes = replay_allocations(m.trace).reserved;
  m.resident_peak_bytes = m.reserved_peak_bytes + 100 * kMebibyte;
  return m;
}

/// A step whose peak moves: 3 MiB per image in the forward pass, or 64 MiB of gradients and 1 MiB
/// per image at the end.
Measurement measured(std::int64_t batch) {
  AllocationTrace trace{batch * 2 * kMebibyte, batch * kMebibyte, -1};
  for (int i = 0; i < 64; ++i) trace.push_back(kMebibyte);
  for (int i = 0; i < 65; ++i) trace.push_back(-2 - i);
  return measurement_of(batch, std::move(trace));
}

TEST(MemoryModel, FollowsAPeakThatMovesFromOneMomentToAnother) {
  const MemoryModel model({measured(4), measured(16)});
  ASSERT_TRUE(model.replays());
  EXPECT_EQ(model.relative_error(), 0);
  for (const std::int64_t batch : {2, 8, 24, 32, 64, 200})
    EXPECT_EQ(model.at(batch), static_cast<double>(measured(batch).resident_peak_bytes)) << batch;
  // A straight line misses that by far.
  EXPECT_LT(model.line().at(64), 0.9 * static_cast<double>(measured(64).resident_peak_bytes));
}

TEST(MemoryModel, BearsFreesInAnotherOrder) {
  Measurement large = measured(16);
  std::swap(large.trace[large.trace.size() - 1], large.trace[large.trace.size() - 2]);
  const MemoryModel model({measured(4), large});
  ASSERT_TRUE(model.replays());
  EXPECT_EQ(model.at(64), static_cast<double>(measured(64).resident_peak_bytes));
}

/// A kernel that takes scratch memory for every sample, one after the other.
Measurement measured_by_samples(std::int64_t batch) {
  AllocationTrace trace{batch * 2 * kMebibyte};
  for (std::int64_t sample = 0; sample < batch; ++sample)
    trace.insert(trace.end(), {3 * kMebibyte, -(sample + 1) - 1});
  trace.insert(trace.end(), {batch * kMebibyte, -1, -(batch + 1) - 1});
  return measurement_of(batch, std::move(trace));
}

TEST(MemoryModel, SeesThroughAKernelThatGoesOverSamplesOneByOne) {
  const MemoryModel model({measured_by_samples(2), measured_by_samples(4)});
  ASSERT_TRUE(model.replays());
  for (const std::int64_t batch : {2, 3, 4, 8, 24, 64})
    EXPECT_EQ(model.at(batch), static_cast<double>(measured_by_samples(batch).resident_peak_bytes))
        << batch;
}

TEST(MemoryModel, IsALineWhereTracesAreMissingOrDiffer) {
  Measurement small = measured(4), large = measured(16);
  large.trace.push_back(64);
  const MemoryModel differ({small, large});
  EXPECT_FALSE(differ.replays());
  EXPECT_NEAR(differ.at(16), static_cast<double>(large.resident_peak_bytes), 1.0);
  small.trace.clear();
  EXPECT_FALSE(MemoryModel({small, measured(16)}).replays());
  EXPECT_FALSE(MemoryModel({small}).replays());
}

}  // namespace
}  // namespace brim::autotune
