// What a training took is given back at its end, and many input sizes do not pile memory up.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "brim/cache/memory_monitor.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"
#include "brim/train/memory_scope.h"
#include "brim/train/trainer.h"

namespace {

/// As the program does, and before the first convolution: oneDNN otherwise keeps 1024 kernels.
const int kLimitCaches =
    setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "16", 0) + setenv("LRU_CACHE_CAPACITY", "16", 0);

brim::TensorBatch batch_of(std::int64_t images, std::int64_t height, std::int64_t width) {
  brim::TensorBatch batch;
  batch.images = torch::randint(256, {images, 3, height, width}, torch::kByte)
                     .contiguous(torch::MemoryFormat::ChannelsLast);
  batch.targets = torch::tensor({{0.F, 1.F, 0.5F, 0.5F, 0.3F, 0.3F}});
  return batch;
}

std::unique_ptr<brim::Trainer> trainer_of(brim::TrainingScope& scope) {
  const auto network = scope.keep(brim::make_network({.model = "yolov5n", .classes = 3}));
  const auto objective = scope.keep(std::make_shared<brim::DetectionLoss>(
      dynamic_cast<brim::Detector&>(*network).anchors(), 3, brim::DetectionLossOptions{}));
  brim::TrainOptions options;
  options.batch_size = 4;
  options.precision = brim::Precision::Fp32;
  return std::make_unique<brim::Trainer>(network, objective, options);
}

void train(std::int64_t images, std::int64_t side, int steps) {
  brim::TrainingScope scope;
  const auto trainer = trainer_of(scope);
  for (int i = 0; i < steps; ++i) trainer->step(batch_of(images, side, side));
}

TEST(TrainingScope, GivesResidentMemoryBackToWithin20MBOfTheStart) {
  ASSERT_EQ(kLimitCaches, 0);
  brim::install_cpu_allocator();
  train(2, 128, 2);  // code, threads and tables of the libraries are loaded once
  const std::int64_t before = brim::own_private_bytes();
  train(8, 320, 3);
  const std::int64_t after = brim::own_private_bytes();
  RecordProperty("before_bytes", std::to_string(before));
  RecordProperty("after_bytes", std::to_string(after));
  EXPECT_LE(after - before, 20'000'000) << before << " to " << after;
}

TEST(TrainingScope, ManyInputSizesStayWithin15PercentOfTheLargest) {
  brim::install_cpu_allocator();
  at::set_num_threads(1);  // 120 small sizes: threads would mostly wait for each other
  brim::TrainingScope scope;
  const auto trainer = trainer_of(scope);
  constexpr std::int64_t kSmallest = 64, kStep = 32;
  for (int i = 0; i < 2; ++i)
    trainer->step(batch_of(4, kSmallest + 11 * kStep, kSmallest + 9 * kStep));
  const std::int64_t largest = brim::own_private_bytes();
  std::int64_t most = largest;
  for (std::int64_t h = 0; h < 12; ++h) {
    for (std::int64_t w = 0; w < 10; ++w) {
      trainer->step(batch_of(4, kSmallest + h * kStep, kSmallest + w * kStep));
      most = std::max(most, brim::own_private_bytes());
    }
  }
  RecordProperty("largest_single_bytes", std::to_string(largest));
  RecordProperty("all_sizes_bytes", std::to_string(most));
  EXPECT_LE(static_cast<double>(most), 1.15 * static_cast<double>(largest))
      << largest << " to " << most;
}

}  // namespace
