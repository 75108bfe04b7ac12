#include "brim/train/allocation_trace.h"

#include <gtest/gtest.h>
#include "brim/dataloader/torch/libtorch.h"

#include <random>

#include "brim/train/cpu_allocator.h"

namespace {

TEST(AllocationTrace, ReplaysToThePeaksOfTheAllocator) {
  brim::install_cpu_allocator();
  std::mt19937 random(5);
  brim::release_cpu_memory();
  const brim::AllocatorStatistics before = brim::allocator_statistics();
  brim::reset_allocator_peaks();
  brim::record_allocations();
  {
    std::vector<torch::Tensor> held(40);
    for (int i = 0; i < 4000; ++i)
      held[random() % held.size()] =
          torch::empty({static_cast<std::int64_t>(1 + random() % 3'000'000)}, torch::kByte);
  }
  const brim::AllocationTrace trace = brim::take_allocation_trace();
  const brim::AllocatorStatistics after = brim::allocator_statistics();
  EXPECT_EQ(trace.size(), 8000u);
  const brim::ReplayedPeaks replayed = brim::replay_allocations(trace);
  EXPECT_EQ(replayed.live, after.peak_live - before.live);
  // What lived before lies in the pool's first chunks.
  EXPECT_NEAR(static_cast<double>(replayed.reserved),
              static_cast<double>(after.peak_reserved - before.reserved), 4 << 20);
  EXPECT_TRUE(brim::take_allocation_trace().empty());
}

TEST(AllocationTrace, LeavesOutWhatWasMadeBefore) {
  brim::install_cpu_allocator();
  torch::Tensor old = torch::empty({1000}, torch::kByte);
  brim::record_allocations();
  old = torch::Tensor();
  const torch::Tensor kept = torch::empty({64}, torch::kByte);
  EXPECT_EQ(brim::take_allocation_trace(), (brim::AllocationTrace{64}));
}

}  // namespace
