#include <gtest/gtest.h>

#include <random>

#include "brim/train/classification_metrics.h"
#include "brim/train/detection_metrics.h"

namespace brim::test {
namespace {

Detection found(float x, float confidence, std::int32_t class_id = 0) {
  return {{x, 0, x + 10, 10}, confidence, class_id};
}
LabelledBox label(float x, std::int32_t class_id = 0) {
  return {class_id, {x, 0, x + 10, 10}};
}

TEST(MatchDetections, ALabelIsFoundOnce) {
  const Detection detections[] = {found(0, 0.9f), found(0, 0.8f)};
  const LabelledBox labels[] = {label(0)};
  const auto correct = match_detections(detections, labels);
  EXPECT_EQ(correct[0], 0x3FF);
  EXPECT_EQ(correct[1], 0);
}

TEST(MatchDetections, CountsByThreshold) {
  const Detection detections[] = {found(2, 0.9f), found(0, 0.8f)};  // IoU 2/3, then 1
  const LabelledBox labels[] = {label(0)};
  const auto correct = match_detections(detections, labels);
  EXPECT_EQ(correct[0], 0b1111);           // .5 .55 .6 .65
  EXPECT_EQ(correct[1], 0x3FF & ~0b1111);  // the label is free again from .7 on
}

TEST(MatchDetections, WantsTheClass) {
  const Detection detections[] = {found(0, 0.9f, 1)};
  const LabelledBox labels[] = {label(0, 0)};
  EXPECT_EQ(match_detections(detections, labels)[0], 0);
}

TEST(DetectionMetrics, PerfectDetectionsScoreAlmostOne) {
  DetectionMetrics metrics(3);
  for (int i = 0; i < 20; ++i) {
    const Detection detections[] = {found(0, 0.9f, 0), found(50, 0.95f, 2)};
    const LabelledBox labels[] = {label(0, 0), label(50, 2)};
    metrics.add(detections, labels);
  }
  const auto scores = metrics.compute();
  EXPECT_EQ(scores.classes.size(), 2u);  // class 1 has no labels
  EXPECT_NEAR(scores.map50, 0.995, 1e-9);
  EXPECT_NEAR(scores.map50_95, 0.995, 1e-9);
  EXPECT_NEAR(scores.precision, 1, 1e-9);
  EXPECT_NEAR(scores.recall, 1, 1e-9);
  EXPECT_EQ(scores.labels, 40);
  EXPECT_EQ(scores.images, 20);
}

TEST(DetectionMetrics, NothingFoundScoresZero) {
  DetectionMetrics metrics(1);
  const LabelledBox labels[] = {label(0)};
  metrics.add({}, labels);
  const auto scores = metrics.compute();
  EXPECT_EQ(scores.map50, 0);
  EXPECT_EQ(scores.fitness(), 0);
  EXPECT_EQ(scores.classes.at(0).labels, 1);
}

TEST(DetectionMetrics, NoLabelsGiveNoClasses) {
  DetectionMetrics metrics(1);
  const Detection detections[] = {found(0, 0.9f)};
  metrics.add(detections, {});
  EXPECT_TRUE(metrics.compute().classes.empty());
}

TEST(DetectionMetrics, FalseDetectionsOfOneClassDoNotTouchAnother) {
  DetectionMetrics metrics(2);
  const Detection detections[] = {found(0, 0.5f, 0), found(300, 0.9f, 1)};
  const LabelledBox labels[] = {label(0, 0), label(100, 1)};
  metrics.add(detections, labels);
  const auto scores = metrics.compute();
  EXPECT_NEAR(scores.classes[0].ap50, 0.995, 1e-9);
  EXPECT_EQ(scores.classes[1].ap50, 0);
}

TEST(DetectionMetrics, PartsOfASplitSetMergeToTheWhole) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<float> unit(0, 1);
    DetectionMetrics whole(4), first(4), second(4);
    ConfusionMatrix all(4), left(4), right(4);
    for (int i = 0; i < 30; ++i) {
      std::vector<Detection> detections;
      std::vector<LabelledBox> labels;
      for (int k = 0; k < 5; ++k) {
        const auto class_id = static_cast<std::int32_t>(random() % 4);
        labels.push_back(label(static_cast<float>(k * 20), class_id));
        detections.push_back(
            found(static_cast<float>(k * 20) + 6 * unit(random), unit(random), class_id));
      }
      whole.add(detections, labels);
      all.add(detections, labels);
      (i % 2 ? first : second).add(detections, labels);
      (i % 2 ? left : right).add(detections, labels);
    }
    first.merge(second);
    left.merge(right);
    EXPECT_NEAR(first.compute().map50_95, whole.compute().map50_95, 1e-12) << "seed " << seed;
    EXPECT_NEAR(first.compute().precision, whole.compute().precision, 1e-12) << "seed " << seed;
    for (int p = 0; p <= 4; ++p) {
      for (int t = 0; t <= 4; ++t) EXPECT_EQ(left.at(p, t), all.at(p, t)) << "seed " << seed;
    }
  }
}

TEST(DetectionMetrics, CurvesHaveOnePointPerStepOfConfidence) {
  DetectionMetrics metrics(1);
  const Detection detections[] = {found(0, 0.8f), found(300, 0.4f)};
  const LabelledBox labels[] = {label(0), label(100)};
  metrics.add(detections, labels);
  const auto curves = metrics.compute().curves.at(0);
  ASSERT_EQ(curves.recall.size(), static_cast<std::size_t>(kCurvePoints));
  EXPECT_EQ(curves.recall[900], 0);  // above every confidence
  EXPECT_EQ(curves.precision[900], 1);
  EXPECT_NEAR(curves.recall[300], 0.5, 1e-9);
  EXPECT_NEAR(curves.precision[300], 0.5, 1e-9);
}

TEST(ConfusionMatrix, CountsConfusionsMissesAndFalseFinds) {
  ConfusionMatrix matrix(3);
  const Detection detections[] = {found(0, 0.9f, 1), found(100, 0.9f, 2), found(200, 0.2f, 0)};
  const LabelledBox labels[] = {label(0, 0), label(200, 0), label(300, 2)};
  matrix.add(detections, labels);
  EXPECT_EQ(matrix.at(1, 0), 1);  // class 0 taken for 1
  EXPECT_EQ(matrix.at(2, 3), 1);  // found where nothing is
  EXPECT_EQ(matrix.at(3, 0), 1);  // missed: its detection is below the confidence
  EXPECT_EQ(matrix.at(3, 2), 1);  // missed
}

TEST(ConfusionMatrix, CountsFalseFindsInPicturesWithoutLabels) {
  ConfusionMatrix matrix(2);
  const Detection detections[] = {found(0, 0.9f, 1)};
  matrix.add(detections, {});
  EXPECT_EQ(matrix.at(1, 2), 1);
}

TEST(ConfusionMatrix, GivesALabelToTheBoxThatFitsItBest) {
  ConfusionMatrix matrix(2);
  const Detection detections[] = {found(3, 0.9f, 1), found(0, 0.5f, 0)};
  const LabelledBox labels[] = {label(0, 0)};
  matrix.add(detections, labels);
  EXPECT_EQ(matrix.at(0, 0), 1);
  EXPECT_EQ(matrix.at(1, 2), 1);
}

TEST(ClassificationMetrics, CountsTopOneAndTopFive) {
  ClassificationMetrics metrics(7);
  metrics.add(torch::tensor({{7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0},
                             {7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0},
                             {7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0},
                             {7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0}}),
              torch::tensor({0, 4, 5, 0}, torch::kLong));
  const auto scores = metrics.compute();
  EXPECT_EQ(scores.top1, 0.5);
  EXPECT_EQ(scores.top5, 0.75);
  EXPECT_EQ(scores.images, 4);
  EXPECT_EQ(scores.class_top1[0], 1);
  EXPECT_EQ(scores.class_top1[4], 0);
  EXPECT_EQ(metrics.confusion(0, 4), 1);
}

TEST(ClassificationMetrics, ANetworkThatSaysNothingFindsNothing) {
  ClassificationMetrics metrics(10);
  metrics.add(torch::full({2, 10}, NAN), torch::tensor({3, 0}, torch::kLong));
  EXPECT_EQ(metrics.compute().top5, 0);
}

}  // namespace
}  // namespace brim::test
