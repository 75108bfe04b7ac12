#include "brim/dataloader/torch/tensor_batch.h"

#include <utility>

namespace brim {
namespace {

/// A tensor over memory of `batch` that keeps it alive.
torch::Tensor view(const Batch& batch, const void* data, torch::IntArrayRef sizes,
                   torch::IntArrayRef strides, torch::ScalarType dtype) {
  return torch::from_blob(
      const_cast<void*>(data), sizes, strides, [batch](void*) {},
      torch::TensorOptions().dtype(dtype));
}

}  // namespace

TensorBatch wrap(Batch batch) {
  TensorBatch result;
  const std::int64_t n = batch.size(), height = batch.height(), width = batch.width();
  result.images = view(batch, batch.pixels().data(), {n, 3, height, width},
                       {height * width * 3, 1, width * 3, 3}, torch::kByte);
  const std::span<TargetRow> rows = batch.targets();
  result.targets = rows.empty()
                       ? torch::empty({0, 6})
                       : view(batch, rows.data(), {static_cast<std::int64_t>(rows.size()), 6},
                              {6, 1}, torch::kFloat);
  if (!batch.class_ids().empty()) {
    result.class_ids = view(batch, batch.class_ids().data(), {n}, {1}, torch::kLong);
  }
  result.samples.assign(batch.samples().begin(), batch.samples().end());
  result.number = batch.number();
  return result;
}

TensorBatch to_device(TensorBatch batch, torch::Device device) {
  for (torch::Tensor* tensor : {&batch.images, &batch.targets, &batch.class_ids})
    if (tensor->defined()) *tensor = tensor->to(device);
  return batch;
}

}  // namespace brim
