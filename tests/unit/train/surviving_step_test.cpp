#include "brim/train/surviving_step.h"

#include <gtest/gtest.h>

#include "brim/cache/error.h"
#include "brim/train/cpu_allocator.h"
#include "support/tiny_training.h"

namespace {
using brim::StepPart;
using brim::SurvivingStep;
using brim::TensorBatch;

/// A model that counts the images it has seen, in a buffer.
struct Counting : torch::nn::Module {
  Counting() {
    weight = register_parameter("weight", torch::zeros({1}));
    seen = register_buffer("seen", torch::zeros({1}));
  }
  torch::Tensor weight, seen;
};

TensorBatch batch_of(std::int64_t images) {
  TensorBatch batch;
  batch.images = torch::arange(images, torch::kByte).reshape({images, 1, 1, 1});
  batch.images = batch.images.expand({images, 3, 4, 4}).contiguous();
  return batch;
}

/// Adds each image's number to the gradient; parts above `most` images run out of memory.
SurvivingStep::Pass pass_of(Counting& model, std::int64_t most) {
  return [&model, most](const StepPart& part) {
    {
      const torch::NoGradGuard no_grad;
      model.seen += part.batch.size();
    }
    const torch::Tensor value = part.batch.images.select(1, 0).select(1, 0).select(1, 0).sum();
    (model.weight * value.to(torch::kFloat)).sum().backward();
    if (part.batch.size() > most) TORCH_CHECK_WITH(OutOfMemoryError, false, "pretended");
  };
}

TEST(SurvivingStep, RunsTheSameSamplesInSmallerPartsAndNoneTwice) {
  Counting model;
  SurvivingStep step(model);
  const auto done = step.run(batch_of(10), pass_of(model, 3));
  EXPECT_TRUE(done.reduced);
  EXPECT_EQ(done.part, 3);
  EXPECT_EQ(done.parts, 4);
  EXPECT_EQ(model.weight.grad().item<float>(), 45);
  EXPECT_EQ(model.seen.item<float>(), 10);
  EXPECT_EQ(step.failures(), 2);
}

TEST(SurvivingStep, KeepsTheReducedSizeAndAddsToGradientsOfEarlierSteps) {
  Counting model;
  SurvivingStep step(model);
  step.run(batch_of(8), pass_of(model, 4));
  const auto done = step.run(batch_of(8), pass_of(model, 4));
  EXPECT_FALSE(done.reduced);
  EXPECT_EQ(done.parts, 2);
  EXPECT_EQ(model.weight.grad().item<float>(), 56);
}

TEST(SurvivingStep, TriesALargerPartAfterACalmWhile) {
  Counting model;
  SurvivingStep step(model, torch::kCPU, {.grow_after = 3});
  step.run(batch_of(8), pass_of(model, 4));
  int parts = 0;
  for (int i = 0; i < 4; ++i) parts = step.run(batch_of(8), pass_of(model, 8)).parts;
  EXPECT_EQ(parts, 1);
}

TEST(SurvivingStep, RefusesWhenNotOneImageFitsAndLeavesTheModelAsItWas) {
  Counting model;
  SurvivingStep step(model);
  EXPECT_THROW(step.run(batch_of(4), pass_of(model, 0)), brim::Error);
  EXPECT_FALSE(model.weight.grad().defined());
  EXPECT_EQ(model.seen.item<float>(), 0);
}

TEST(SurvivingStep, PassesOtherFaultsOnUndone) {
  Counting model;
  SurvivingStep step(model);
  EXPECT_THROW(step.run(batch_of(4),
                        [&](const StepPart& part) {
                          pass_of(model, 8)(part);
                          throw std::logic_error("a defect");
                        }),
               std::logic_error);
  EXPECT_FALSE(model.weight.grad().defined());
  EXPECT_EQ(model.seen.item<float>(), 0);
}

TEST(SurvivingStep, ComputesThePartFromWhatEarlierStepsTook) {
  brim::install_cpu_allocator();
  Counting model;
  SurvivingStep step(model);
  // 1 MiB per image, held until the part is done.
  const auto pass = [&](const StepPart& part) {
    const torch::Tensor activations = torch::empty({part.batch.size(), 1 << 20}, torch::kByte);
    pass_of(model, 100)(part);
  };
  step.run(batch_of(64), pass);
  brim::release_cpu_memory();
  brim::set_allocator_limit(brim::allocator_statistics().reserved + (50 << 20));
  const auto done = step.run(batch_of(64), pass);
  brim::set_allocator_limit(0);
  EXPECT_TRUE(done.reduced);
  EXPECT_EQ(step.failures(), 1);
  EXPECT_EQ(done.parts, 2);
  EXPECT_EQ(model.seen.item<float>(), 128);
}

}  // namespace
