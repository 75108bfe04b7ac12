#include <gtest/gtest.h>

#include "brim/train/detection_metrics.h"
#include "support/reference.h"

namespace brim::test {
namespace {

std::string numbered(const std::string& name, int i) {
  return name + (i < 10 ? "_0" : "_") + std::to_string(i);
}

std::vector<Detection> detections_of(const torch::Tensor& t) {
  std::vector<Detection> result;
  const auto c = t.contiguous();
  for (std::int64_t i = 0; i < c.size(0); ++i) {
    const float* p = c.data_ptr<float>() + i * 6;
    result.push_back({{p[0], p[1], p[2], p[3]}, p[4], static_cast<std::int32_t>(p[5])});
  }
  return result;
}

std::vector<LabelledBox> labels_of(const torch::Tensor& t) {
  std::vector<LabelledBox> result;
  const auto c = t.contiguous();
  for (std::int64_t i = 0; i < c.size(0); ++i) {
    const float* p = c.data_ptr<float>() + i * 5;
    result.push_back({static_cast<std::int32_t>(p[0]), {p[1], p[2], p[3], p[4]}});
  }
  return result;
}

TEST(AveragePrecisionVectors, SameDetectionsAreCorrect) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/average_precision.pt");
  const TensorMap v = load_tensors(path);
  for (int i = 0; i < 40; ++i) {
    const auto correct = match_detections(detections_of(at(v, numbered("det", i))),
                                          labels_of(at(v, numbered("lab", i))));
    const auto& expected = at(v, numbered("correct", i));
    for (std::size_t d = 0; d < correct.size(); ++d) {
      for (int t = 0; t < kIouThresholds; ++t) {
        EXPECT_EQ((correct[d] >> t & 1) != 0,
                  expected[static_cast<std::int64_t>(d)][t].item<bool>())
            << "image " << i << " detection " << d << " threshold " << t;
      }
    }
  }
}

TEST(AveragePrecisionVectors, SameScoresPerClassAndOverall) {
  BRIM_TEST_DATA_OR_SKIP(path, "reference/yolov5/average_precision.pt");
  const TensorMap v = load_tensors(path);
  DetectionMetrics metrics(5);
  for (int i = 0; i < 40; ++i) {
    metrics.add(detections_of(at(v, numbered("det", i))), labels_of(at(v, numbered("lab", i))));
  }
  const DetectionScores scores = metrics.compute();
  ASSERT_EQ(static_cast<std::int64_t>(scores.classes.size()), at(v, "classes").size(0));
  for (std::size_t c = 0; c < scores.classes.size(); ++c) {
    const auto i = static_cast<std::int64_t>(c);
    EXPECT_EQ(scores.classes[c].class_id, at(v, "classes")[i].item<int>());
    EXPECT_NEAR(scores.classes[c].precision, at(v, "precision")[i].item<double>(), 1e-4);
    EXPECT_NEAR(scores.classes[c].recall, at(v, "recall")[i].item<double>(), 1e-4);
    EXPECT_NEAR(scores.classes[c].f1, at(v, "f1")[i].item<double>(), 1e-4);
    for (int t = 0; t < kIouThresholds; ++t) {
      EXPECT_NEAR(scores.classes[c].ap[static_cast<std::size_t>(t)],
                  at(v, "ap")[i][t].item<double>(), 1e-4);
    }
  }
  EXPECT_NEAR(scores.map50, at(v, "map50").item<double>(), 1e-5);
  EXPECT_NEAR(scores.map50_95, at(v, "map50_95").item<double>(), 1e-5);
  EXPECT_NEAR(scores.fitness(), at(v, "fitness").item<double>(), 1e-5);
}

}  // namespace
}  // namespace brim::test
