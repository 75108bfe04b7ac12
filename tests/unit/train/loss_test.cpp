#include <gtest/gtest.h>

#include <random>

#include "brim/cache/error.h"
#include "brim/train/classification_loss.h"
#include "brim/train/detection_loss.h"

namespace brim::test {
namespace {

using Path = DetectionLoss::Path;

/// Raw levels of a detector with `classes` classes for pictures of `size` pixels, laid out as a
/// channels-last network makes them (rows whole) or not.
struct Scene {
  std::vector<torch::Tensor> levels;
  torch::Tensor targets, anchors;
};

Scene make_scene(std::uint64_t seed, int images, int size, int classes, int labels,
                 bool channels_last, torch::ScalarType dtype = torch::kFloat) {
  torch::manual_seed(seed);
  Scene s;
  for (const int stride : {8, 16, 32}) {
    const int side = size / stride;
    const int depth = classes + 5;
    auto t = channels_last ? torch::randn({images, side, side, 3, depth}).permute({0, 3, 1, 2, 4})
                           : torch::randn({images, 3, depth, side, side}).permute({0, 1, 3, 4, 2});
    s.levels.push_back((t * 2).to(dtype).requires_grad_(true));
  }
  s.anchors = torch::tensor({1.25, 1.625, 2.0, 3.75, 4.125, 2.875, 1.875, 3.8125, 3.875, 2.8125,
                             3.6875, 7.4375, 3.625, 2.8125, 4.875, 6.1875, 11.656, 10.1875})
                  .view({3, 3, 2});
  auto rows = torch::rand({labels, 6});
  rows.select(1, 0).mul_(images).floor_();
  rows.select(1, 1).mul_(classes).floor_();
  rows.slice(1, 4, 6).mul_(0.6).add_(0.02);
  s.targets = rows;
  return s;
}

struct Gradients {
  LossResult result;
  std::vector<torch::Tensor> gradients;
};

Gradients run(const Scene& scene, int classes, DetectionLossOptions options, Path path) {
  DetectionLoss objective(scene.anchors, classes, std::move(options), path);
  Gradients g{objective.loss(scene.levels, scene.targets), {}};
  g.gradients = torch::autograd::grad({g.result.total}, scene.levels);
  return g;
}

void expect_close(const torch::Tensor& a, const torch::Tensor& b, double tolerance) {
  ASSERT_EQ(a.sizes(), b.sizes());
  const double scale = b.abs().max().item<double>() + 1e-12;
  EXPECT_LT((a - b).abs().max().item<double>() / scale, tolerance);
}

void expect_same(const Scene& scene, int classes, const DetectionLossOptions& options) {
  const auto fused = run(scene, classes, options, Path::Fused);
  const auto tensors = run(scene, classes, options, Path::Tensors);
  expect_close(fused.result.total, tensors.result.total, 1e-5);
  expect_close(fused.result.components, tensors.result.components, 1e-5);
  for (std::size_t i = 0; i < fused.gradients.size(); ++i) {
    expect_close(fused.gradients[i], tensors.gradients[i], 1e-4);
    EXPECT_EQ(fused.gradients[i].strides(), scene.levels[i].strides());
  }
}

TEST(DetectionLoss, FusedKernelAgreesWithTensorOperations) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Scene scene = make_scene(seed, 2, 96, 4, 12, true);
    expect_same(scene, 4, {});
    expect_same(scene, 4, {.fl_gamma = 1.5, .label_smoothing = 0.1});
    expect_same(scene, 4, {.cls_pw = 0.7, .obj_pw = 1.3});
    expect_same(scene, 4, {.cls_pw = 2, .obj_pw = 0.5, .anchor_t = 2.5, .fl_gamma = 0.5});
  }
}

TEST(DetectionLoss, TakesLevelsWithoutWholeRows) {
  const Scene scene = make_scene(3, 2, 96, 4, 12, false);
  const auto fused = run(scene, 4, {}, Path::Fused);
  const auto tensors = run(scene, 4, {}, Path::Tensors);
  for (std::size_t i = 0; i < 3; ++i) expect_close(fused.gradients[i], tensors.gradients[i], 1e-4);
}

TEST(DetectionLoss, HasNoClassPartForOneClass) {
  const Scene scene = make_scene(5, 2, 64, 1, 6, true);
  expect_same(scene, 1, {});
  const auto fused = run(scene, 1, {}, Path::Fused);
  EXPECT_EQ(fused.result.components[2].item<float>(), 0);
  EXPECT_EQ(fused.gradients[0].slice(4, 5).abs().sum().item<float>(), 0);
}

TEST(DetectionLoss, TakesPicturesWithoutLabels) {
  Scene scene = make_scene(6, 2, 64, 3, 0, true);
  expect_same(scene, 3, {});
  EXPECT_EQ(run(scene, 3, {}, Path::Fused).result.components[0].item<float>(), 0);
}

TEST(DetectionLoss, LastMatchSetsTheObjectnessTargetOfAContestedPlace) {
  Scene scene = make_scene(7, 1, 64, 2, 0, true);
  const auto row = torch::tensor({0.0, 0.0, 0.5, 0.5, 0.3, 0.3});
  auto wider = row.clone();
  wider.slice(0, 4, 6).fill_(0.5);
  scene.targets = torch::stack({row, wider});
  const auto first = run(scene, 2, {}, Path::Fused);
  expect_same(scene, 2, {});
  scene.targets = torch::stack({wider, row});
  expect_same(scene, 2, {});
  const auto second = run(scene, 2, {}, Path::Fused);
  EXPECT_NE(first.result.components[1].item<float>(), second.result.components[1].item<float>());
  expect_close(first.result.components[0], second.result.components[0], 1e-6);
}

TEST(DetectionLoss, GradientIsThatOfDoublePrecisionDifferences) {
  Scene scene = make_scene(8, 1, 64, 2, 4, true, torch::kDouble);
  DetectionLoss objective(scene.anchors, 2, {.fl_gamma = 1.5}, Path::Tensors);
  // Objectness targets are constants of the gradient but move with the boxes: the class and
  // objectness logits are checked, the box logits by the CIoU test.
  const auto gradient =
      torch::autograd::grad({objective.loss(scene.levels, scene.targets).total}, scene.levels);
  const torch::NoGradGuard no_grad;
  auto flat = scene.levels[1].select(1, 1);
  for (const int channel : {4, 5, 6}) {
    auto cell = flat[0][2][2][channel];
    const double kept = cell.item<double>(), step = 1e-4;
    cell.fill_(kept + step);
    const double up = objective.loss(scene.levels, scene.targets).total.item<double>();
    cell.fill_(kept - step);
    const double down = objective.loss(scene.levels, scene.targets).total.item<double>();
    cell.fill_(kept);
    EXPECT_NEAR((up - down) / (2 * step), gradient[1][0][1][2][2][channel].item<double>(), 1e-6);
  }
}

TEST(DetectionLoss, TakesHalfPrecisionLevels) {
  const Scene scene = make_scene(9, 2, 64, 3, 6, true, torch::kBFloat16);
  const auto fused = run(scene, 3, {}, Path::Fused);
  const auto tensors = run(scene, 3, {}, Path::Tensors);
  EXPECT_EQ(fused.gradients[0].scalar_type(), torch::kBFloat16);
  expect_close(fused.result.total, tensors.result.total, 1e-5);
  expect_close(fused.gradients[0].to(torch::kFloat), tensors.gradients[0].to(torch::kFloat), 2e-2);
}

TEST(DetectionLoss, DoesNotDependOnTheNumberOfThreads) {
  const Scene scene = make_scene(10, 3, 160, 5, 30, true);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = run(scene, 5, {}, Path::Fused);
  at::set_num_threads(2);
  const auto two = run(scene, 5, {}, Path::Fused);
  at::set_num_threads(before);
  EXPECT_TRUE(torch::equal(one.result.total, two.result.total));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(torch::equal(one.gradients[i], two.gradients[i]));
  }
}

TEST(DetectionLoss, KeepsNoGraphWhereNoneIsWanted) {
  const Scene scene = make_scene(11, 1, 64, 3, 3, true);
  const torch::NoGradGuard no_grad;
  DetectionLoss objective(scene.anchors, 3, {});
  EXPECT_FALSE(objective.loss(scene.levels, scene.targets).total.requires_grad());
}

TEST(DetectionLoss, ShareOfAnImageDoesNotDependOnTheSplit) {
  Scene scene = make_scene(12, 1, 64, 3, 3, true);
  const auto one = run(scene, 3, {}, Path::Fused);
  Scene twice = scene;
  for (auto& level : twice.levels) level = torch::cat({level, level}).detach().requires_grad_(true);
  auto second = scene.targets.clone();
  second.select(1, 0).fill_(1);
  twice.targets = torch::cat({scene.targets, second});
  const auto two = run(twice, 3, {}, Path::Fused);
  expect_close(two.result.total, one.result.total * 2, 1e-5);
  expect_close(two.result.components, one.result.components, 1e-5);
}

TEST(DetectionLoss, NamesAClassThatDoesNotExist) {
  Scene scene = make_scene(13, 1, 64, 3, 2, true);
  scene.targets.select(1, 1).fill_(3);
  DetectionLoss objective(scene.anchors, 3, {});
  try {
    objective.loss(scene.levels, scene.targets);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("outside 0..2"), std::string::npos) << error.what();
  }
}

TEST(DetectionLoss, RefusesLevelsOfAnotherNetwork) {
  const Scene scene = make_scene(14, 1, 64, 3, 2, true);
  DetectionLoss objective(scene.anchors, 4, {});
  EXPECT_THROW(objective.loss(scene.levels, scene.targets), std::invalid_argument);
}

TEST(MatchTargets, MatchesTheCellAndItsNearestNeighbours) {
  const TargetRow row{0, 1, 0.53f, 0.47f, 0.25f, 0.25f};  // centre 4.24, 3.76 of 8x8
  const float anchors[] = {2, 2};
  const auto matches = match_targets({&row, 1}, anchors, 8, 8, 4.0);
  ASSERT_EQ(matches.size(), 3u);
  EXPECT_EQ(matches[0].column, 4);
  EXPECT_EQ(matches[0].row, 3);
  EXPECT_EQ(matches[1].column, 3);  // left
  EXPECT_EQ(matches[1].row, 3);
  EXPECT_EQ(matches[2].column, 4);  // below
  EXPECT_EQ(matches[2].row, 4);
  EXPECT_NEAR(matches[1].cx, 1.24, 1e-5);
}

TEST(MatchTargets, LeavesOutAnchorsOfAnotherShape) {
  const TargetRow row{0, 0, 0.5f, 0.5f, 0.5f, 0.1f};
  const float anchors[] = {4, 1, 1, 4};
  for (const auto& match : match_targets({&row, 1}, anchors, 8, 8, 4.0)) EXPECT_EQ(match.anchor, 0);
}

TEST(MatchTargets, StaysInsideTheGridAtItsEdges) {
  for (const float at : {0.0f, 1.0f}) {
    const TargetRow row{0, 0, at, 1 - at, 0.25f, 0.25f};
    const float anchors[] = {2, 2};
    for (const auto& match : match_targets({&row, 1}, anchors, 8, 6, 4.0)) {
      EXPECT_TRUE(match.column >= 0 && match.column < 8 && match.row >= 0 && match.row < 6);
    }
  }
}

TEST(ClassificationLoss, IsTheSmoothedCrossEntropyTimesTheImages) {
  torch::manual_seed(1);
  const auto logits = torch::randn({4, 5}).requires_grad_(true);
  const auto labels = torch::tensor({0, 4, 2, 2}, torch::kLong);
  ClassificationLoss objective({.label_smoothing = 0.1});
  TensorBatch batch;
  batch.class_ids = labels;
  const auto result = objective.loss({.predictions = logits}, batch);
  const auto p = torch::log_softmax(logits, 1);
  const auto truth = torch::one_hot(labels, 5).to(torch::kFloat) * 0.9 + 0.1 / 5;
  expect_close(result.total, -(truth * p).sum(), 1e-5);
  expect_close(result.components[0], result.total / 4, 1e-6);
  result.total.backward();
  EXPECT_TRUE(logits.grad().defined());
}

TEST(ClassificationLoss, NamesAClassThatDoesNotExist) {
  ClassificationLoss objective;
  TensorBatch batch;
  batch.class_ids = torch::tensor({5}, torch::kLong);
  EXPECT_THROW(objective.loss({.predictions = torch::zeros({1, 5})}, batch), Error);
}

}  // namespace
}  // namespace brim::test
