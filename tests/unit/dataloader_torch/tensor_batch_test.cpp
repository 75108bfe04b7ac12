#include "brim/dataloader/torch/tensor_batch.h"

#include <gtest/gtest.h>

#include "support/fake_data.h"

namespace brim {
namespace {

std::shared_ptr<const Dataset> memory(Task task = Task::Detect, int boxes = 2) {
  return std::make_shared<test::MemoryDataset>(
      test::MemoryDataset::Settings{.size = 20, .task = task, .boxes = boxes});
}

std::shared_ptr<const Transform> mix() {
  return std::make_shared<test::MixTransform>(test::MixTransform::Settings{});
}

TEST(TensorBatch, LooksAtTheSlotWithoutACopy) {
  Loader loader(memory(), mix(), {.batch_size = 4, .workers = 1});
  loader.start(0);
  Batch batch = *loader.next();
  const std::uint8_t* pixels = batch.pixels().data();
  const TargetRow* rows = batch.targets().data();
  const std::vector<std::uint8_t> copy(batch.pixels().begin(), batch.pixels().end());
  const TensorBatch tensors = wrap(std::move(batch));
  EXPECT_EQ(tensors.size(), 4);
  EXPECT_EQ(tensors.images.data_ptr(), pixels);
  EXPECT_EQ(tensors.targets.data_ptr(), rows);
  EXPECT_EQ(tensors.images.sizes(), (torch::IntArrayRef{4, 3, 5, 7}));
  EXPECT_TRUE(tensors.images.is_contiguous(torch::MemoryFormat::ChannelsLast));
  EXPECT_FALSE(tensors.class_ids.defined());
  EXPECT_EQ(tensors.images[2][1][4][6].item<int>(), copy[((2 * 5 + 4) * 7 + 6) * 3 + 1]);
  EXPECT_EQ(tensors.targets.size(1), 6);
  EXPECT_EQ(tensors.targets[0][0].item<float>(), 0);
}

TEST(TensorBatch, KeepsTheSlotUntilItsLastTensorDies) {
  torch::Tensor images;
  std::uint64_t digest = 0;
  {
    Loader loader(memory(), mix(), {.batch_size = 4, .workers = 2, .prefetch_batches = 1});
    loader.start(0);
    Batch batch = *loader.next();
    digest = batch.digest();
    images = wrap(batch).images;
    EXPECT_EQ(batch.slot().use_count(), 2);
    while (loader.next()) {
    }
    EXPECT_EQ(batch.digest(), digest);
  }
  EXPECT_GE(images.sum().item<std::int64_t>(), 0);
}

TEST(TensorBatch, HoldsNoTargetsAndClassIdsAsTheTaskSays) {
  Loader loader(memory(Task::Classify, 0), mix(), {.batch_size = 8, .workers = 1});
  DeviceLoader batches(loader, torch::kCPU);
  for (int epoch = 0; epoch < 2; ++epoch) {
    batches.start(epoch);
    std::int64_t count = 0;
    while (const auto batch = batches.next()) {
      EXPECT_EQ(batch->number, count++);
      EXPECT_EQ(batch->targets.sizes(), (torch::IntArrayRef{0, 6}));
      ASSERT_EQ(batch->class_ids.size(0), batch->size());
      for (std::int64_t i = 0; i < batch->size(); ++i) {
        EXPECT_EQ(batch->class_ids[i].item<std::int64_t>(),
                  batch->samples[static_cast<std::size_t>(i)].index % 3);
      }
    }
    EXPECT_EQ(count, 3);
  }
}

TEST(NormalizeImages, EqualsADivisionBy255InEveryType) {
  const torch::Tensor bytes = torch::randint(0, 256, {3, 3, 37, 53}, torch::kByte)
                                  .contiguous(torch::MemoryFormat::ChannelsLast);
  for (const torch::ScalarType type :
       {torch::kFloat, torch::kDouble, torch::kHalf, torch::kBFloat16}) {
    const torch::Tensor scaled = normalize_images(bytes, type);
    EXPECT_EQ(scaled.scalar_type(), type);
    EXPECT_TRUE(scaled.is_contiguous(torch::MemoryFormat::ChannelsLast));
    EXPECT_TRUE(torch::equal(scaled, bytes.to(torch::kFloat).div(255).to(type))) << type;
  }
}

TEST(NormalizeImages, TakesAnyMemoryFormatAndRefusesOtherTypes) {
  const torch::Tensor bytes = torch::randint(0, 256, {2, 3, 8, 9}, torch::kByte);
  EXPECT_TRUE(torch::equal(normalize_images(bytes), bytes.to(torch::kFloat).div(255)));
  EXPECT_THROW(normalize_images(bytes.to(torch::kFloat)), c10::Error);
}

}  // namespace
}  // namespace brim
