#include "brim/autotune/find_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "brim/train/cpu_allocator.h"

namespace brim::autotune {
namespace {

constexpr std::int64_t kMebi = 1 << 20;

/// A step that holds 2 MiB per image.
void step(std::int64_t batch) {
  const torch::Tensor activations = torch::zeros({batch, 2 * kMebi}, torch::kByte);
}

std::int64_t outside() {
  return read_memory_limits().own_resident - allocator_statistics().reserved;
}

TEST(FindBatch, LearnsTheMemoryOfACallersOwnStep) {
  install_cpu_allocator();
  release_cpu_memory();
  const BatchPlan plan =
      find_batch(step, {.goal = {.byte_budget = outside() + 4096 * kMebi}, .steps = 2});
  EXPECT_NEAR(plan.memory.slope, 2.0 * kMebi, 0.3 * kMebi);
  EXPECT_LE(plan.tried.size(), 3u);
  EXPECT_GE(plan.batch, 16);
}

TEST(FindBatch, ASizeBeyondTheCapUnwindsAndDoesNotFit) {
  install_cpu_allocator();
  release_cpu_memory();
  const BatchPlan plan =
      find_batch(step, {.space = {.first_probes = {4, 256}},
                        .goal = {.byte_budget = outside() + 120 * kMebi, .safety = 0.0},
                        .steps = 2});
  EXPECT_EQ(plan.tried[1].outcome, Outcome::OutOfMemory);
  EXPECT_LE(plan.batch, 60);
  EXPECT_GE(plan.batch, 4);
  EXPECT_EQ(allocator_statistics().byte_limit, 0);  // the cap ends with the search
}

TEST(FindBatch, RefusesWhenNotOneImageFits) {
  install_cpu_allocator();
  EXPECT_THROW(find_batch([](std::int64_t n) { step(100 * n); },
                          {.goal = {.byte_budget = outside() + 64 * kMebi}, .steps = 2}),
               Error);
}

TEST(FindBatch, LeavesTheModelAsItWas) {
  torch::manual_seed(4);
  torch::nn::Linear model(8, 2);
  const torch::Tensor weight = model->weight.detach().clone();
  const torch::Tensor next = torch::rand({4});
  torch::manual_seed(4);
  torch::nn::Linear again(8, 2);
  const auto train = [&](std::int64_t n) {
    again->forward(torch::rand({n, 8})).sum().backward();
    const torch::NoGradGuard no_grad;
    again->weight -= again->weight.grad();
  };
  find_batch(train, {.steps = 2, .preserve = again.get()});
  EXPECT_TRUE(again->weight.equal(weight));
  EXPECT_FALSE(again->weight.grad().defined());
  EXPECT_TRUE(torch::rand({4}).equal(next));
}

TEST(FindBatch, OtherFaultsOfTheStepAreTheCallers) {
  EXPECT_THROW(find_batch([](std::int64_t) { throw std::logic_error("a defect"); }),
               std::logic_error);
}

TEST(ProbeRequest, IsTakenOffTheEndOfTheArguments) {
  std::string words[] = {"program", "--mine", "--brim-probe", "not a number", "3"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int argc = 5;
  EXPECT_FALSE(take_probe_request(argc, argv.data()));
  EXPECT_EQ(argc, 5);
  argc = 2;
  EXPECT_FALSE(take_probe_request(argc, argv.data()));
}

}  // namespace
}  // namespace brim::autotune
