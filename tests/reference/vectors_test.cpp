#include <gtest/gtest.h>

#include "support/reference.h"

namespace brim::test {
namespace {

TEST(ReferenceVectors, AreReadFromPickles) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/iou.pt");
  EXPECT_FALSE(load_tensors(path).empty());
  EXPECT_FALSE(reference_variants().empty());
}

TEST(ReferenceVectors, UniformIsTheStatedGenerator) {
  // The first outputs of splitmix64 from state 0, as published with the generator.
  EXPECT_EQ(splitmix64(0), 0xE220A8397B1DCDAFU);
  EXPECT_EQ(splitmix64(0x9E3779B97F4A7C15U), 0x6E789E6AA1B965F4U);
  const torch::Tensor u = uniform(1000, 7);
  EXPECT_GE(u.min().item<float>(), 0.0F);
  EXPECT_LT(u.max().item<float>(), 1.0F);
  EXPECT_NEAR(u.mean().item<float>(), 0.5F, 0.05F);
}

}  // namespace
}  // namespace brim::test
