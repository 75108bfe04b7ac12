#include "brim/train/precision.h"

#include <gtest/gtest.h>

#include "brim/cache/error.h"

namespace {
using brim::Precision;

TEST(Precision, ReadsItsNamesAndRefusesOthers) {
  EXPECT_EQ(brim::parse_precision("bf16"), Precision::Bf16);
  try {
    brim::parse_precision("fp8", "precision");
    FAIL() << "no error";
  } catch (const brim::Error& error) {
    EXPECT_EQ(error.message(), "unknown precision 'fp8'");
    EXPECT_EQ(error.where().key, "precision");
  }
}

TEST(Precision, RefusesHalfOnTheCpu) {
  EXPECT_THROW(brim::resolve_precision(Precision::Fp16, torch::kCPU), brim::Error);
  EXPECT_EQ(brim::resolve_precision(Precision::Auto, torch::kCUDA), Precision::Fp16);
  EXPECT_EQ(brim::resolve_precision(Precision::Auto, torch::kCPU), Precision::Fp32);
}

TEST(AutocastScope, CastsConvolutionsAndRestoresTheOldState) {
  const torch::Tensor x = torch::rand({1, 4, 8, 8}), w = torch::rand({4, 4, 3, 3});
  {
    const brim::AutocastScope scope(Precision::Bf16, torch::kCPU);
    EXPECT_EQ(torch::conv2d(x, w).scalar_type(), torch::kBFloat16);
    {
      const brim::AutocastScope inner(Precision::Fp32, torch::kCPU);
      EXPECT_EQ(torch::conv2d(x, w).scalar_type(), torch::kBFloat16);
    }
  }
  EXPECT_EQ(torch::conv2d(x, w).scalar_type(), torch::kFloat);
}

TEST(GradScaler, GrowsAfterGoodStepsAndBacksOffOnOverflow) {
  brim::GradScaler scaler({.enabled = true, .initial_scale = 1024, .growth_interval = 3});
  scaler.update(true);
  scaler.update(true);
  EXPECT_EQ(scaler.scale(), 1024);
  scaler.update(true);
  EXPECT_EQ(scaler.scale(), 2048);
  scaler.update(false);
  EXPECT_EQ(scaler.scale(), 1024);
  const brim::GradScaler::State state = scaler.state();
  brim::GradScaler other({.enabled = true, .growth_interval = 3});
  other.load(state);
  EXPECT_EQ(other.scale(), 1024);
}

TEST(GradScaler, IsOneWhereItIsNotNeeded) {
  brim::GradScaler scaler;
  scaler.update(false);
  EXPECT_EQ(scaler.scale(), 1);
}
}  // namespace
