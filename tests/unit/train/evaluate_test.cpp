#include "brim/train/evaluate.h"

#include <gtest/gtest.h>

#include "support/tiny_training.h"

namespace {
using brim::TensorBatch;

/// Says the same boxes of every image: those it was made with.
class FixedDetector : public brim::Network {
 public:
  explicit FixedDetector(torch::Tensor predictions) : predictions_(std::move(predictions)) {}
  brim::NetworkOutput forward(const torch::Tensor& images) override {
    EXPECT_FALSE(is_training());
    EXPECT_FALSE(torch::GradMode::is_enabled());
    return {.predictions = predictions_.expand({images.size(0), -1, -1})};
  }
  brim::Task task() const override { return brim::Task::Detect; }
  int classes() const override { return 2; }
  int max_stride() const override { return 32; }
  const std::string& name() const override { return name_; }

 private:
  std::string name_ = "fixed";
  torch::Tensor predictions_;
};

/// A 64x64 sample of a 200x100 image: scaled by 0.32, 16 pixels of grey above and below.
TensorBatch letterboxed(const torch::Tensor& targets) {
  TensorBatch batch;
  batch.images = torch::zeros({1, 3, 64, 64}, torch::kByte);
  batch.targets = targets;
  batch.samples.push_back({.placement = {.original_width = 200,
                                         .original_height = 100,
                                         .scale_x = 0.32F,
                                         .scale_y = 0.32F,
                                         .pad_x = 0,
                                         .pad_y = 16}});
  return batch;
}

TEST(Evaluate, FindsAPerfectDetectorPerfect) {
  // One box of class 1 at (20, 32) of 10x8 pixels in the sample.
  const torch::Tensor predictions =
      torch::tensor({20.0F, 32.0F, 10.0F, 8.0F, 1.0F, 0.0F, 0.9F}).view({1, 1, 7});
  FixedDetector network(predictions);
  std::vector<TensorBatch> batches{letterboxed(
      torch::tensor({0.0F, 1.0F, 20.0F / 64, 0.5F, 10.0F / 64, 8.0F / 64}).view({1, 6}))};
  const auto source = brim::make_batch_source(batches);
  brim::BoxF seen{};
  const brim::EvaluationResult result = brim::evaluate(
      network, *source,
      {.on_batch = [&](const brim::EvaluatedBatch& b) { seen = b.detections[0][0].box; }});
  EXPECT_EQ(result.images, 1);
  EXPECT_NEAR(result.detection.map50, 0.995, 1e-3);
  EXPECT_NEAR(result.detection.map50_95, 0.995, 1e-3);
  EXPECT_EQ(result.confusion->at(1, 1), 1);
  const brim::BoxF expected{15 / 0.32F, 12 / 0.32F, 25 / 0.32F, 20 / 0.32F};
  EXPECT_NEAR(seen.x1, expected.x1, 1e-3);
  EXPECT_NEAR(seen.y2, expected.y2, 1e-3);
  const brim::EvaluationSummary summary = brim::summarize(result);
  EXPECT_EQ(summary.metrics[2].first, "mAP_0.5");
  EXPECT_NEAR(summary.fitness, 0.995, 1e-3);
  EXPECT_TRUE(network.is_training());
}

TEST(Evaluate, CountsBackgroundImagesAgainstTheDetector) {
  FixedDetector network(
      torch::tensor({20.0F, 32.0F, 10.0F, 8.0F, 1.0F, 0.0F, 0.9F}).view({1, 1, 7}));
  std::vector<TensorBatch> batches{letterboxed(torch::zeros({0, 6}))};
  const brim::EvaluationResult result = brim::evaluate(network, *brim::make_batch_source(batches));
  EXPECT_EQ(result.detection.map50, 0);
  EXPECT_EQ(result.confusion->at(1, 2), 1);
}

TEST(Evaluate, LeavesOutWhatTookThePlaceOfABadFile) {
  FixedDetector network(
      torch::tensor({20.0F, 32.0F, 10.0F, 8.0F, 1.0F, 0.0F, 0.9F}).view({1, 1, 7}));
  const torch::Tensor right =
      torch::tensor({0.0F, 1.0F, 20.0F / 64, 0.5F, 10.0F / 64, 8.0F / 64}).view({1, 6});
  std::vector<TensorBatch> batches{letterboxed(right), letterboxed(torch::zeros({0, 6}))};
  batches[1].samples[0].replaced = true;
  const brim::EvaluationResult result = brim::evaluate(network, *brim::make_batch_source(batches));
  EXPECT_EQ(result.images, 1);
  EXPECT_NEAR(result.detection.map50, 0.995, 1e-3);
  EXPECT_EQ(result.confusion->at(1, 2), 0);

  brim::test::TinyNetwork classifier;
  auto pictures = brim::test::tiny_batches(1, 8);
  pictures[0].samples.resize(8);
  for (int i : {0, 3, 4}) pictures[0].samples[i].replaced = true;
  EXPECT_EQ(brim::evaluate(classifier, *brim::make_batch_source(pictures)).images, 5);
}

TEST(Evaluate, CountsTopOneAndFiveAndTheLoss) {
  torch::manual_seed(2);
  brim::test::TinyNetwork network;
  auto batches = brim::test::tiny_batches(3, 8);
  brim::test::TinyObjective objective;
  const brim::EvaluationResult result =
      brim::evaluate(network, *brim::make_batch_source(batches), {.objective = &objective});
  network.eval();
  std::int64_t right = 0;
  double loss = 0;
  const torch::NoGradGuard no_grad;
  for (const TensorBatch& batch : batches) {
    const auto logits = network.forward(brim::normalize_images(batch.images)).predictions;
    right += logits.argmax(1).eq(batch.class_ids).sum().item<std::int64_t>();
    loss += torch::nn::functional::cross_entropy(logits, batch.class_ids).item<double>() / 3;
  }
  EXPECT_EQ(result.images, 24);
  EXPECT_NEAR(result.classification.top1, static_cast<double>(right) / 24, 1e-9);
  EXPECT_EQ(result.classification.top5, 1.0);
  EXPECT_NEAR(result.losses.at(0), loss, 1e-5);
  EXPECT_EQ(brim::summarize(result).metrics.back().first, "val_cls");
}
}  // namespace
