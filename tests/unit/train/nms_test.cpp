#include "brim/train/nms.h"

#include <gtest/gtest.h>

#include <limits>

namespace brim::test {
namespace {

Detection at(float x, float confidence, std::int32_t class_id = 0) {
  return {{x, 0, x + 10, 10}, confidence, class_id};
}

TEST(Nms, KeepsTheBestOfBoxesThatOverlap) {
  const auto kept = suppress({at(0, 0.5f), at(1, 0.9f), at(30, 0.4f)}, {});
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[0].confidence, 0.9f);
  EXPECT_EQ(kept[1].box.x1, 30);
}

TEST(Nms, ASuppressedBoxSuppressesNothing) {
  // 0 hides 4, which alone would hide 8.
  const auto kept = suppress({at(0, 0.9f), at(3, 0.8f), at(6, 0.7f)}, {});
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[1].box.x1, 6);
}

TEST(Nms, ClassesAreRivalsOnlyWhenAgnostic) {
  const std::vector<Detection> two{at(0, 0.9f, 0), at(0, 0.8f, 79)};
  EXPECT_EQ(suppress(two, {}).size(), 2u);
  EXPECT_EQ(suppress(two, {.agnostic = true}).size(), 1u);
}

TEST(Nms, KeepsNoMoreThanAskedForAndTheBestOfThem) {
  std::vector<Detection> many;
  for (int i = 0; i < 20; ++i)
    many.push_back(at(static_cast<float>(i * 20), 0.3f + 0.01f * static_cast<float>(i)));
  const auto kept = suppress(many, {.max_detections = 3});
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[0].box.x1, 380);
  EXPECT_EQ(suppress(many, {.max_candidates = 2}).size(), 2u);
}

TEST(Nms, EqualConfidencesKeepTheirOrder) {
  const auto kept = suppress({at(0, 0.5f), at(100, 0.5f), at(200, 0.5f)}, {});
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[0].box.x1, 0);
  EXPECT_EQ(kept[2].box.x1, 200);
}

TEST(Nms, MultiLabelGivesOneBoxPerClassThatIsLikelyEnough) {
  auto p = torch::zeros({1, 1, 8});
  p[0][0] = torch::tensor({5.0, 5.0, 10.0, 10.0, 0.8, 0.9, 0.1, 0.7});
  EXPECT_EQ(non_maximum_suppression(p)[0].size(), 1u);
  const auto found = non_maximum_suppression(p, {.multi_label = true})[0];
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].class_id, 0);
  EXPECT_EQ(found[1].class_id, 2);
  EXPECT_FLOAT_EQ(found[1].confidence, 0.56f);
  EXPECT_EQ(found[0].box, (BoxF{0, 0, 10, 10}));
}

TEST(Nms, TakesImagesWithoutAnythingAndNumbersThatAreNone) {
  auto p = torch::zeros({2, 3, 7});
  p[1].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto found = non_maximum_suppression(p);
  EXPECT_TRUE(found[0].empty());
  EXPECT_TRUE(found[1].empty());
  EXPECT_TRUE(non_maximum_suppression(torch::zeros({1, 0, 7}))[0].empty());
}

TEST(Nms, RefusesPredictionsOfAnotherShape) {
  EXPECT_THROW(non_maximum_suppression(torch::zeros({3, 7})), std::invalid_argument);
}

TEST(Nms, NothingKeptOverlapsByMoreThanTheLimit) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    torch::manual_seed(seed);
    auto p = torch::rand({1, 400, 8});
    p.slice(2, 0, 4).mul_(100);
    const auto kept = non_maximum_suppression(p, {.multi_label = true})[0];
    EXPECT_FALSE(kept.empty());
    for (std::size_t i = 0; i < kept.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (kept[i].class_id != kept[j].class_id) continue;
        EXPECT_LE(iou(kept[i].box, kept[j].box), 0.45f + 1e-5f) << "seed " << seed;
        EXPECT_GE(kept[j].confidence, kept[i].confidence) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace brim::test
