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

}  // namespace
}  // namespace brim::cli
