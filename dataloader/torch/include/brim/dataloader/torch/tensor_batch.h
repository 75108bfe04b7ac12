#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "brim/dataloader/loader.h"

namespace brim {

/// A batch as tensors. On the CPU `images`, `targets` and `class_ids` look at the loader's slot
/// without a copy and keep it alive.
struct TensorBatch {
  torch::Tensor images;     ///< uint8 [N, 3, H, W], channels-last strides
  torch::Tensor targets;    ///< float32 [M, 6]: image, class, cx, cy, w, h (fractions)
  torch::Tensor class_ids;  ///< int64 [N] (classification), else undefined
  std::vector<SampleInfo> samples;
  std::int64_t number = 0;
  std::int64_t size() const { return images.defined() ? images.size(0) : 0; }
};

/// Tensors around `batch`, no copy.
TensorBatch wrap(Batch batch);
/// The batch on `device`; itself where it is there already.
TensorBatch to_device(TensorBatch batch, torch::Device device);

/// uint8 [N,3,H,W] to `dtype` (floating) on its device, divided by 255, channels-last. Reads each
/// byte once, with all of LibTorch's intra-op threads.
torch::Tensor normalize_images(const torch::Tensor& images,
                               torch::ScalarType dtype = torch::kFloat);

/// Gives batches on a device. For another device than the CPU the next batch is copied on a stream
/// of its own while the consumer works on this one, whenever the loader has it ready; nothing waits
/// for it, and the consumer's stream waits for no more than the copy of its own batch. Copies run
/// beside the CPU's work where the loader's slots lie in pinned_memory(). One thread.
///
///   Loader loader(dataset, transform, {.slot_memory = pinned_memory(torch::kCUDA)});
///   DeviceLoader batches(loader, torch::kCUDA);
///   batches.start(epoch);
///   while (std::optional<TensorBatch> batch = batches.next()) step(*batch);
class DeviceLoader {
 public:
  DeviceLoader(Loader& loader, torch::Device device);
  ~DeviceLoader();
  DeviceLoader(const DeviceLoader&) = delete;
  DeviceLoader& operator=(const DeviceLoader&) = delete;

  void start(std::int64_t epoch, std::int64_t first_batch = 0);
  std::optional<TensorBatch> next();

 private:
  struct Copies;
  Loader& loader_;
  std::unique_ptr<Copies> copies_;  // null: batches stay on the CPU
  std::optional<TensorBatch> fetch();
};

}  // namespace brim
