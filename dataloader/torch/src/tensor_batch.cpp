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

void move_to(TensorBatch& batch, torch::Device device) {
  const auto moved = [device](torch::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(device, /*non_blocking=*/true);
  };
  moved(batch.images);
  moved(batch.targets);
  moved(batch.class_ids);
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

DeviceLoader::DeviceLoader(Loader& loader, torch::Device device)
    : loader_(loader), device_(device) {}

void DeviceLoader::start(std::int64_t epoch, std::int64_t first_batch) {
  ahead_.reset();
  loader_.start(epoch, first_batch);
}

std::optional<TensorBatch> DeviceLoader::fetch() {
  std::optional<Batch> batch = loader_.next();
  if (!batch) return std::nullopt;
  TensorBatch result = wrap(std::move(*batch));
  if (!device_.is_cpu()) move_to(result, device_);
  return result;
}

std::optional<TensorBatch> DeviceLoader::next() {
  std::optional<TensorBatch> result = ahead_ ? std::exchange(ahead_, std::nullopt) : fetch();
  if (result && !device_.is_cpu() && loader_.ready()) ahead_ = fetch();
  return result;
}

}  // namespace brim
