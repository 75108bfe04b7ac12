#include "training.h"

#include <gtest/gtest.h>

namespace brim::cli {
namespace {

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
