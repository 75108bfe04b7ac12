#include "brim/train/anchors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace brim::test {
namespace {

std::vector<BoxSize> labels_around(std::span<const BoxSize> centers, int each, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> gain(1, 0.1f);
  std::vector<BoxSize> result;
  for (const BoxSize& c : centers) {
    for (int i = 0; i < each; ++i) {
      result.push_back({c.width * std::abs(gain(random)), c.height * std::abs(gain(random))});
    }
  }
  return result;
}

class FixedDetector : public Detector {
 public:
  NetworkOutput forward(const torch::Tensor&) override { return {}; }
  int classes() const override { return 1; }
  int max_stride() const override { return 32; }
  const std::string& name() const override { return name_; }
  std::vector<double> strides() const override { return {8, 16, 32}; }
  torch::Tensor anchors() const override { return anchors_; }
  void set_anchors(const torch::Tensor& anchors) override { anchors_ = anchors; }

 private:
  std::string name_ = "fixed";
  torch::Tensor anchors_ =
      torch::tensor({1.25, 1.625, 2.0, 3.75, 4.125, 2.875, 1.875, 3.8125, 3.875, 2.8125, 3.6875,
                     7.4375, 3.625, 2.8125, 4.875, 6.1875, 11.656, 10.1875})
          .view({3, 3, 2});
};

class TwoImages : public Dataset {
 public:
  std::int64_t size() const override { return 2; }
  Record record(std::int64_t index, RecordScratch&) const override {
    Record r;
    r.width = index == 0 ? 400 : 0;
    r.height = index == 0 ? 200 : 0;
    r.boxes = boxes_;
    return r;
  }
  Task task() const override { return Task::Detect; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return 0; }
  std::string path(std::int64_t) const override { return {}; }

 private:
  std::vector<std::string> names_{"a"};
  std::vector<Box> boxes_{{0, 0.5f, 0.5f, 0.5f, 0.5f}};
};

TEST(Anchors, LabelSizesAreThoseAfterTheResize) {
  const TwoImages dataset;
  const auto sizes = label_sizes(dataset, 640);
  ASSERT_EQ(sizes.size(), 2u);
  EXPECT_FLOAT_EQ(sizes[0].width, 320);
  EXPECT_FLOAT_EQ(sizes[0].height, 160);
  EXPECT_FLOAT_EQ(sizes[1].height, 320);  // size unknown: square
  EXPECT_EQ(label_sizes(dataset, 640, 1).size(), 1u);
}

TEST(Anchors, RecallCountsLabelsWithinReach) {
  const BoxSize anchors[] = {{10, 10}, {100, 100}};
  const BoxSize labels[] = {{12, 9}, {30, 30}, {10, 50}, {1000, 1000}};
  const auto fit = measure_anchors(labels, anchors, 4);
  EXPECT_DOUBLE_EQ(fit.recall, 0.5);
  EXPECT_DOUBLE_EQ(fit.per_label, 0.75);  // 30x30 is reached by both
}

TEST(Anchors, FittedOnesFindTheSizesOfTheLabels) {
  const std::vector<BoxSize> centers{{8, 8},     {20, 60},   {90, 30},
                                     {200, 210}, {400, 100}, {500, 500}};
  const auto labels = labels_around(centers, 100, 3);
  const auto anchors = fit_anchors(labels, 6, {.seed = 1});
  ASSERT_EQ(anchors.size(), 6u);
  EXPECT_GT(measure_anchors(labels, anchors, 4).fitness, 0.8);
  EXPECT_EQ(measure_anchors(labels, anchors, 4).recall, 1);
  for (std::size_t i = 1; i < anchors.size(); ++i) {
    EXPECT_LE(anchors[i - 1].width * anchors[i - 1].height, anchors[i].width * anchors[i].height);
  }
}

TEST(Anchors, SameSeedGivesTheSameAnchors) {
  const auto labels = labels_around(std::vector<BoxSize>{{8, 30}, {60, 20}}, 100, 5);
  const auto a = fit_anchors(labels, 9, {.seed = 7}), b = fit_anchors(labels, 9, {.seed = 7});
  for (std::size_t i = 0; i < 9; ++i) {
    EXPECT_EQ(a[i].width, b[i].width);
    EXPECT_EQ(a[i].height, b[i].height);
  }
}

TEST(Anchors, RefinementNeverMakesThemWorse) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto labels =
        labels_around(std::vector<BoxSize>{{8, 8}, {20, 60}, {90, 30}, {300, 200}}, 50, seed);
    const auto plain = fit_anchors(labels, 3, {.generations = 0, .seed = seed});
    const auto refined = fit_anchors(labels, 3, {.generations = 300, .seed = seed});
    EXPECT_GE(measure_anchors(labels, refined, 4).fitness,
              measure_anchors(labels, plain, 4).fitness)
        << "seed " << seed;
  }
}

TEST(Anchors, FewerSizesThanAnchorsAreNoTrouble) {
  const BoxSize labels[] = {{10, 10}, {10, 10}};
  const auto anchors = fit_anchors(labels, 9);
  ASSERT_EQ(anchors.size(), 9u);
  for (const BoxSize& a : anchors) EXPECT_TRUE(a.width > 0 && std::isfinite(a.height));
  EXPECT_TRUE(fit_anchors({}, 9).empty());
}

TEST(Anchors, GoodOnesAreKept) {
  FixedDetector detector;
  const auto before = detector.anchors().clone();
  const auto labels = labels_around(std::vector<BoxSize>{{16, 30}, {60, 60}, {200, 150}}, 100, 1);
  const auto check = check_anchors(detector, labels);
  EXPECT_FALSE(check.replaced);
  EXPECT_GT(check.before.recall, 0.98);
  EXPECT_TRUE(torch::equal(before, detector.anchors()));
  EXPECT_EQ(check.anchors.size(), 9u);
  EXPECT_NEAR(check.anchors[0].width, 10, 1e-4);
}

TEST(Anchors, ThoseThatMissTheLabelsAreReplaced) {
  FixedDetector detector;
  const auto labels = labels_around(std::vector<BoxSize>{{300, 10}, {4, 200}, {100, 100}}, 100, 1);
  const auto check = check_anchors(detector, labels);
  EXPECT_TRUE(check.replaced);
  EXPECT_LT(check.before.recall, 0.5);
  EXPECT_EQ(check.after.recall, 1);
  EXPECT_NEAR(detector.anchors()[2][2][0].item<float>() * 32, check.anchors[8].width, 1e-3);
}

}  // namespace
}  // namespace brim::test
