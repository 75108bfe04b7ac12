#include "account.h"

#include <gtest/gtest.h>

namespace brim::cli {
namespace {

TEST(Account, OfALargeStepIsMeasuredAtASizeThatTheNetworkTakes) {
  Config config;
  config.model.name = "yolov5n6";  // its sides are multiples of 64
  config.train.img = 960;
  const autotune::MemoryAccount account = account_of(config, 3, 4, 2);
  EXPECT_EQ(account.image_size, 960);
  EXPECT_EQ(account.batch, 2);
  EXPECT_GT(account.activations, account.parameters);
}

TEST(Account, OfOneLargeImageFollowsFromSmallOnes) {
  for (const char* precision : {"fp32", "bf16"}) {
    Config config;
    config.model.name = "yolov5n";
    config.train.precision = precision;
    config.train.img = 320;
    const autotune::MemoryAccount measured = account_of(config, 3, 4, 1);
    const auto estimated = account_of_one(config, 3, 4);
    ASSERT_TRUE(estimated);
    EXPECT_NEAR(
        static_cast<double>(estimated->activations) / static_cast<double>(measured.activations), 1,
        0.1)
        << precision;
  }
}

}  // namespace
}  // namespace brim::cli
