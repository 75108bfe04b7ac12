#include "training.h"

#include <gtest/gtest.h>

#include "experiment.h"
#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim::cli {
namespace {

/// What a new detector says of the classes of `data` where it knows nothing else.
torch::Tensor first_opinion(const Config& config) {
  Console console;
  const auto data = open_data(config, Split::Train);
  const auto network = build_network(config, *data, Task::Detect, console);
  const torch::Tensor bias = network->named_parameters()["model.24.m.1.bias"].detach();
  return torch::sigmoid(bias.view({3, 8}).slice(1, 5));
}

TEST(NewDetector, StartsWithTheShareOfEachClassAmongTheLabels) {
  const test::TempDir folder;
  const std::string a = "0 0.5 0.5 0.2 0.2\n", b = "1 0.5 0.5 0.4 0.4\n";
  const std::string more_a = "0 0.4 0.4 0.2 0.2\n0 0.3 0.3 0.2 0.2\n";
  Config config;
  config.data.path = test::write_yolo(folder.file("set"), {a + more_a, a + b, "-", ""});
  config.data.index_dir = "none";
  config.model.auto_anchor = false;
  config.train.img = 64;
  // Four labels of a, one of b, none of c, and one imagined more of each.
  const torch::Tensor shares = torch::tensor({5.0F / 8, 2.0F / 8, 1.0F / 8}).expand({3, 3});
  EXPECT_TRUE(first_opinion(config).allclose(shares)) << first_opinion(config);
  const double alike = 0.6 / (3 - 0.99999) / (1 + 0.6 / (3 - 0.99999));
  config.data.class_weighted = true;
  EXPECT_NEAR(first_opinion(config).mean().item<double>(), alike, 0.05);
  config.data.class_weighted = false;
  config.model.class_prior = false;
  EXPECT_NEAR(first_opinion(config).mean().item<double>(), alike, 0.05);
}

std::string nominal_batch_of(std::int64_t images, std::int64_t epochs, const std::string& batch) {
  Config config;
  config.train.epochs = epochs;
  config.train.batch = batch;
  decide_by_length(config, images);
  return config.train.nominal_batch;
}

TEST(NominalBatch, LeavesShortRunsAThousandOptimiserSteps) {
  EXPECT_EQ(nominal_batch_of(292, 20, "16"), "16");
  EXPECT_EQ(nominal_batch_of(292, 20, "auto"), "16");
  EXPECT_EQ(nominal_batch_of(1600, 20, "4"), "32");  // 1000 steps of 32 images
  EXPECT_EQ(nominal_batch_of(1599, 20, "4"), "16");  // one step fewer
  EXPECT_EQ(nominal_batch_of(3200, 20, "4"), "64");
  EXPECT_EQ(nominal_batch_of(118287, 300, "16"), "64");
}

TEST(NominalBatch, OfAShortRunIsTheBatchWhereThatIsLarger) {
  EXPECT_EQ(nominal_batch_of(292, 20, "24"), "24");
  EXPECT_EQ(nominal_batch_of(292, 20, "64"), "64");
  EXPECT_EQ(nominal_batch_of(292, 20, "256"), "64");  // as in YOLOv5, whose weight decay grows then
}

TEST(NominalBatch, IsWhatTheUserSays) {
  Config config;
  config.train.nominal_batch = "48";
  decide_by_length(config, 10);
  EXPECT_EQ(config.train.nominal_batch, "48");
  EXPECT_EQ(nominal_batch(config.train), 48);
  for (const char* wrong : {"0", "-3", "64 images", "6.5"}) {
    config.train.nominal_batch = wrong;
    try {
      nominal_batch(config.train);
      FAIL() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.where().key, "train.nominal_batch") << wrong;
    }
  }
}

}  // namespace
}  // namespace brim::cli
