#include <cstring>

#include "brim/dataloader/torch/tensor_batch.h"
#include "gpu/device/gpu_test.h"
#include "support/errors.h"
#include "support/fake_data.h"

namespace brim::test {
namespace {

std::unique_ptr<Loader> make_loader(int workers, std::int64_t size,
                                    std::shared_ptr<std::pmr::memory_resource> memory) {
  return std::make_unique<Loader>(
      std::make_shared<MemoryDataset>(MemoryDataset::Settings{.size = size}),
      std::make_shared<MixTransform>(MixTransform::Settings{.width = 96, .height = 64}),
      LoaderOptions{.batch_size = 8,
                    .workers = workers,
                    .prefetch_batches = 2,
                    .slot_memory = std::move(memory)});
}

/// Counts what goes through it.
class CountedMemory final : public std::pmr::memory_resource {
 public:
  explicit CountedMemory(std::shared_ptr<std::pmr::memory_resource> under)
      : under_(std::move(under)) {}
  int given = 0;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    ++given;
    return under_->allocate(bytes, alignment);
  }
  void do_deallocate(void* data, std::size_t bytes, std::size_t alignment) override {
    under_->deallocate(data, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  std::shared_ptr<std::pmr::memory_resource> under_;
};

using DeviceLoaderGpu = Gpu;

TEST_F(DeviceLoaderGpu, GivesTheBatchesOfTheCpuWhateverTheMemoryAndTheWorkers) {
  for (const bool pinned : {true, false}) {
    for (const int workers : {0, 3}) {
      const auto here = make_loader(1, 400, nullptr);
      const auto there = make_loader(workers, 400, pinned ? pinned_memory(device) : nullptr);
      DeviceLoader batches(*there, device);
      for (int epoch = 0; epoch < 3; ++epoch) {
        here->start(epoch);
        batches.start(epoch);
        // Kept without a wait, so that a slot written too early would show.
        std::vector<TensorBatch> expected, found;
        while (auto batch = here->next()) {
          TensorBatch copy = wrap(std::move(*batch));
          copy.images = copy.images.clone();
          copy.targets = copy.targets.clone();
          expected.push_back(copy);
        }
        while (auto batch = batches.next()) {
          torch::Tensor busy = torch::rand({512, 512}, device);
          for (int i = 0; i < 5; ++i) busy = torch::mm(busy, busy).tanh();  // the stream is late
          batch->images = batch->images.clone(torch::MemoryFormat::Preserve);
          found.push_back(std::move(*batch));
        }
        ASSERT_EQ(found.size(), expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          ASSERT_TRUE(found[i].images.is_cuda());
          ASSERT_TRUE(found[i].images.is_contiguous(torch::MemoryFormat::ChannelsLast));
          ASSERT_TRUE(torch::equal(found[i].images.cpu(), expected[i].images)) << i;
          ASSERT_TRUE(torch::equal(found[i].targets.cpu(), expected[i].targets)) << i;
        }
      }
    }
  }
}

TEST_F(DeviceLoaderGpu, PinsEverySlotOnceAndNoMore) {
  const auto counted = std::make_shared<CountedMemory>(pinned_memory(device));
  const auto loader = make_loader(2, 400, counted);
  DeviceLoader batches(*loader, device);
  for (int epoch = 0; epoch < 3; ++epoch) {
    batches.start(epoch);
    while (batches.next()) {
    }
  }
  EXPECT_EQ(counted->given, loader->plan().slots);
}

TEST_F(DeviceLoaderGpu, MayEndOrStartAgainWhileCopiesAreUnderWay) {
  for (int i = 0; i < 50; ++i) {
    const auto loader = make_loader(2, 100, pinned_memory(device));
    DeviceLoader batches(*loader, device);
    batches.start(0);
    for (int n = 0; n < i % 5; ++n) batches.next();
    batches.start(1, i % 3);
    const auto batch = batches.next();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->number, i % 3);
  }
}

TEST_F(DeviceLoaderGpu, NormalisesToTheLastBitLikeTheCpu) {
  const torch::Tensor bytes = torch::randint(0, 256, {4, 3, 50, 70}, torch::kByte)
                                  .contiguous(torch::MemoryFormat::ChannelsLast);
  for (const auto type : {torch::kFloat, torch::kHalf, torch::kBFloat16}) {
    const torch::Tensor there = normalize_images(bytes.to(device), type);
    EXPECT_TRUE(there.is_contiguous(torch::MemoryFormat::ChannelsLast));
    EXPECT_TRUE(torch::equal(there.cpu(), normalize_images(bytes, type))) << type;
  }
}

TEST_F(DeviceLoaderGpu, SaysWhichDevicesThereAre) {
  const std::string text = error_of([] { require_device({torch::kCUDA, 63}, "train.device"); });
  EXPECT_NE(text.find("there is no cuda:63 here, only cuda:0"), std::string::npos) << text;
  EXPECT_NE(describe_device(device).find("GiB"), std::string::npos) << describe_device(device);
}

}  // namespace
}  // namespace brim::test
