// Counts allocations of the whole process while a loader runs in steady state.
#include <gtest/gtest.h>

#include "brim/dataloader/loader.h"
#include "support/allocations.h"
#include "support/fake_data.h"

namespace brim {
namespace {

std::int64_t allocations_of_an_epoch(int workers, int partners) {
  auto dataset = std::make_shared<test::MemoryDataset>(
      test::MemoryDataset::Settings{.size = 4000, .width = 32, .height = 32, .name = "m"});
  auto transform = std::make_shared<test::MixTransform>(
      test::MixTransform::Settings{.partners = partners, .partner_probability = 1});
  Loader loader(dataset, transform, {.batch_size = 16, .workers = workers});
  for (int epoch = 0; epoch < 2; ++epoch) {  // warm up: buffers reach their size
    loader.start(epoch);
    while (loader.next()) {
    }
  }
  loader.start(2);
  test::reset_allocations();
  std::int64_t batches = 0;
  while (const auto batch = loader.next()) ++batches;
  EXPECT_EQ(batches, 250);
  return test::allocations().count;
}

TEST(LoaderAllocations, ThereAreNonePerBatchInSteadyState) {
  if (!test::counts_allocations()) GTEST_SKIP() << "a sanitizer owns malloc";
  for (const int workers : {0, 1, 2}) {
    for (const int partners : {0, 3}) {
      // In 250 batches: what is left are pools that reach their high-water mark late.
      EXPECT_LE(allocations_of_an_epoch(workers, partners), 25)
          << workers << " workers, " << partners << " partners";
    }
  }
}

}  // namespace
}  // namespace brim
