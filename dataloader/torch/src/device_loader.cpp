#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <deque>
#include <thread>
#include <utility>

#include "brim/dataloader/torch/device.h"
#include "brim/dataloader/torch/tensor_batch.h"

namespace brim {

/// Copies on a stream of their own. Works through LibTorch's device interface: no CUDA in here.
struct DeviceLoader::Copies {
  struct Copy {
    TensorBatch host, device;
    std::shared_ptr<c10::Event> done;
  };

  explicit Copies(torch::Device where)
      : device(where), guard(where.type()), stream(guard.getStreamFromGlobalPool(where)) {}

  ~Copies() {
    // A slot must not be written again while the device still reads it.
    for (const Copy& copy : under_way)
      while (!copy.done->query()) std::this_thread::yield();
  }

  Copy begin(TensorBatch host) {
    Copy copy{std::move(host), {}, std::make_shared<c10::Event>(device.type())};
    const c10::Stream outer = guard.exchangeStream(stream);
    try {
      // Small ones first: from ordinary memory they would wait for what is under way.
      copy.device = copy.host;
      for (torch::Tensor TensorBatch::*part :
           {&TensorBatch::targets, &TensorBatch::class_ids, &TensorBatch::images}) {
        torch::Tensor& tensor = copy.device.*part;
        if (tensor.defined()) tensor = tensor.to(device, /*non_blocking=*/true);
      }
      copy.done->record(stream);
    } catch (...) {
      guard.exchangeStream(outer);
      throw;
    }
    guard.exchangeStream(outer);
    return copy;
  }

  /// The batch for whoever works on the current stream.
  TensorBatch hand_over(Copy copy) {
    const c10::Stream consumer = guard.getStream(device);
    copy.done->block(consumer);
    for (torch::Tensor TensorBatch::*part :
         {&TensorBatch::targets, &TensorBatch::class_ids, &TensorBatch::images}) {
      const torch::Tensor& tensor = copy.device.*part;
      if (tensor.defined()) tensor.record_stream(consumer);
    }
    TensorBatch result = std::move(copy.device);
    copy.device = {};
    under_way.push_back(std::move(copy));
    return result;
  }

  /// Gives slots back whose copies are done.
  void release() {
    while (!under_way.empty() && under_way.front().done->query()) under_way.pop_front();
  }

  torch::Device device;
  c10::impl::VirtualGuardImpl guard;
  c10::Stream stream;
  std::optional<Copy> ahead;
  std::deque<Copy> under_way;
};

DeviceLoader::DeviceLoader(Loader& loader, torch::Device device) : loader_(loader) {
  if (!device.is_cpu()) copies_ = std::make_unique<Copies>(with_index(device));
}

DeviceLoader::~DeviceLoader() = default;

void DeviceLoader::start(std::int64_t epoch, std::int64_t first_batch) {
  if (copies_ && copies_->ahead) {
    copies_->under_way.push_back(std::move(*copies_->ahead));
    copies_->ahead.reset();
  }
  loader_.start(epoch, first_batch);
}

std::optional<TensorBatch> DeviceLoader::fetch() {
  std::optional<Batch> batch = loader_.next();
  if (!batch) return std::nullopt;
  return wrap(std::move(*batch));
}

std::optional<TensorBatch> DeviceLoader::next() {
  if (!copies_) return fetch();
  copies_->release();
  if (!copies_->ahead) {
    std::optional<TensorBatch> host = fetch();
    if (!host) return std::nullopt;
    copies_->ahead = copies_->begin(std::move(*host));
  }
  TensorBatch result = copies_->hand_over(std::move(*copies_->ahead));
  copies_->ahead.reset();
  if (loader_.ready()) {
    if (std::optional<TensorBatch> host = fetch())
      copies_->ahead = copies_->begin(std::move(*host));
  }
  return result;
}

}  // namespace brim
