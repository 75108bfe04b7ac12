#include "brim/autotune/memory_account.h"

#include <gtest/gtest.h>

#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"

namespace brim::autotune {
namespace {

TEST(MemoryAccount, PartsAddUpToThePeakOfTheStep) {
  install_cpu_allocator();
  release_cpu_memory();
  const auto make = []() -> ProbeSubject {
    const auto network = make_network({.model = "yolov5n", .classes = 3});
    return {network,
            std::make_shared<DetectionLoss>(dynamic_cast<Detector&>(*network).anchors(), 3,
                                            DetectionLossOptions{}),
            {.image_size = 128, .boxes_per_image = 32}};
  };
  const MemoryAccount account = account_training(make, 4);
  EXPECT_GT(account.workspace, 0);
  EXPECT_GT(account.layers.size(), 20u);
  const std::int64_t tensors = account.total() - account.runtime - account.loader - account.gaps;
  const std::int64_t peak = allocator_statistics().peak_live;
  // Gradients come while activations go: all of both at once is an upper bound.
  EXPECT_GT(1.02 * static_cast<double>(tensors), static_cast<double>(peak));
  EXPECT_LT(0.75 * static_cast<double>(tensors), static_cast<double>(peak));
  EXPECT_NEAR(static_cast<double>(account.gaps),
              static_cast<double>(allocator_statistics().peak_reserved - peak),
              0.05 * static_cast<double>(peak));
}

}  // namespace
}  // namespace brim::autotune
