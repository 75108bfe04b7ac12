#include "brim/autotune/memory_account.h"

#include <gtest/gtest.h>

#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"

namespace brim::autotune {
namespace {

TEST(MemoryAccount, PartsAddUpToThePeakOfTheStep) {
  install_cpu_allocator();
  release_cpu_memory();
  const auto network = make_network({.model = "yolov5n", .classes = 3});
  const auto loss = std::make_shared<DetectionLoss>(dynamic_cast<Detector&>(*network).anchors(), 3,
                                                    DetectionLossOptions{});
  const MemoryAccount account =
      account_training(network, loss, {.image_size = 128, .boxes_per_image = 32}, 4);
  EXPECT_GT(account.workspace, 0);
  EXPECT_GT(account.layers.size(), 20u);
  const std::int64_t tensors = account.total() - account.runtime - account.loader;
  const std::int64_t peak = allocator_statistics().peak_live;
  // Gradients come while activations go: all of both at once is an upper bound.
  EXPECT_GT(1.02 * static_cast<double>(tensors), static_cast<double>(peak));
  EXPECT_LT(0.75 * static_cast<double>(tensors), static_cast<double>(peak));
}

}  // namespace
}  // namespace brim::autotune
