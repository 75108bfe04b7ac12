#include "brim/train/boxes.h"

#include <gtest/gtest.h>

#include <random>

namespace brim::test {
namespace {

constexpr float kFar = 1e-4f;

CenterBox random_box(std::mt19937_64& random) {
  std::uniform_real_distribution<float> center(0, 10), size(0.3f, 8);
  return {center(random), center(random), size(random), size(random)};
}

torch::Tensor to_tensor(const CenterBox& b) {
  return torch::tensor({b.cx, b.cy, b.width, b.height}).view({1, 4});
}

TEST(Boxes, CornersAndCentersAreInversesOfEachOther) {
  const CenterBox box{5, 6, 4, 2};
  EXPECT_EQ(to_corners(box), (BoxF{3, 5, 7, 7}));
  EXPECT_EQ(to_center(to_corners(box)), box);
}

TEST(Boxes, ComeBackToTheOriginalImage) {
  const Placement p{.original_width = 200,
                    .original_height = 100,
                    .scale_x = 0.5f,
                    .scale_y = 0.5f,
                    .pad_x = 0,
                    .pad_y = 25};
  EXPECT_EQ(to_original({10, 35, 90, 65}, p), (BoxF{20, 20, 180, 80}));
  EXPECT_EQ(to_original({-10, 0, 190, 100}, p), (BoxF{0, 0, 200, 100}));
}

TEST(Overlap, IsOneForEqualBoxesAndSmallerForAnyOther) {
  const CenterBox box{5, 5, 2, 3};
  for (const auto kind : {Overlap::IoU, Overlap::GIoU, Overlap::DIoU, Overlap::CIoU}) {
    EXPECT_NEAR(overlap(box, box, kind), 1, 1e-5);
    EXPECT_LT(overlap(box, {5.5f, 5, 2, 3}, kind), 1);
  }
}

TEST(Overlap, TellsBoxesThatDoNotTouchByTheirDistance) {
  const CenterBox box{5, 5, 2, 2};
  EXPECT_EQ(overlap(box, {9, 5, 2, 2}, Overlap::IoU), 0);
  for (const auto kind : {Overlap::GIoU, Overlap::DIoU, Overlap::CIoU}) {
    EXPECT_LT(overlap(box, {15, 5, 2, 2}, kind), overlap(box, {9, 5, 2, 2}, kind));
  }
}

TEST(Overlap, AgreesForSingleBoxesAndTensors) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::mt19937_64 random(seed);
    const CenterBox a = random_box(random), b = random_box(random);
    for (const auto kind : {Overlap::IoU, Overlap::GIoU, Overlap::DIoU, Overlap::CIoU}) {
      EXPECT_NEAR(overlap(a, b, kind), overlap(to_tensor(a), to_tensor(b), kind).item<float>(),
                  1e-5)
          << "seed " << seed;
    }
    EXPECT_NEAR(iou(to_corners(a), to_corners(b)), overlap(a, b), 1e-5) << "seed " << seed;
  }
}

TEST(Overlap, GradientOfTheKernelIsThatOfAutograd) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const CenterBox a = random_box(random), b = random_box(random);
    auto box = to_tensor(a).requires_grad_(true);
    overlap(box, to_tensor(b), Overlap::CIoU).sum().backward();
    float gradient[4];
    const float value = ciou_with_gradient(a, b, gradient);
    EXPECT_NEAR(value, overlap(a, b, Overlap::CIoU), 1e-6) << "seed " << seed;
    for (int i = 0; i < 4; ++i) {
      EXPECT_NEAR(gradient[i], box.grad()[0][i].item<float>(), kFar) << "seed " << seed;
    }
  }
}

TEST(Overlap, StaysFiniteForBoxesWithoutArea) {
  EXPECT_EQ(iou({1, 1, 1, 1}, {1, 1, 1, 1}), 0);
  EXPECT_TRUE(std::isfinite(overlap({1, 1, 1e-6f, 1e-6f}, {5, 5, 1, 1}, Overlap::CIoU)));
}

}  // namespace
}  // namespace brim::test
