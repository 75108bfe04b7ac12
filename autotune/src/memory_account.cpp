#include "brim/autotune/memory_account.h"

#include <malloc.h>

#include <algorithm>

#include "brim/autotune/memory_model.h"
#include "brim/cache/memory_budget.h"
#include "brim/train/cpu_allocator.h"
#include "worst_batch.h"

namespace brim::autotune {
namespace {

std::int64_t bytes_of(const std::vector<torch::Tensor>& tensors) {
  std::int64_t sum = 0;
  for (const torch::Tensor& tensor : tensors) sum += static_cast<std::int64_t>(tensor.nbytes());
  return sum;
}

std::int64_t bytes_of(const TensorMap& tensors) {
  std::int64_t sum = 0;
  for (const auto& [name, tensor] : tensors) sum += static_cast<std::int64_t>(tensor.nbytes());
  return sum;
}

std::int64_t gaps_in(const ReplayedPeaks& peaks) {
  return std::max<std::int64_t>(0, peaks.reserved - peaks.live);
}

/// Of allocations, until they are taken or the object ends.
struct Recording {
  Recording() { record_allocations(); }
  ~Recording() { take_allocation_trace(); }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

/// Books what is live after each layer of a network's forward pass, while it lives.
class LayerWatch {
 public:
  LayerWatch(Network& network, std::vector<LayerBytes>& layers) : network_(network) {
    network_.set_layer_watch([this, &layers](const std::string& name) {
      const std::int64_t live = allocator_statistics().live;
      if (!name.empty()) layers.push_back({name, live - before_});
      before_ = live;
    });
  }
  ~LayerWatch() { network_.set_layer_watch({}); }
  LayerWatch(const LayerWatch&) = delete;
  LayerWatch& operator=(const LayerWatch&) = delete;

 private:
  Network& network_;
  std::int64_t before_ = 0;
};

}  // namespace

MemoryAccount account_training(const std::function<ProbeSubject()>& make, std::int64_t batch) {
  if (!cpu_allocator_installed()) install_cpu_allocator();
  const Recording recording;
  const auto [network, objective, options] = make();
  MemoryAccount account;
  account.batch = batch;
  account.image_size = options.image_size;
  TrainOptions train = options.train;
  train.batch_size = train.nominal_batch = batch;
  train.folder.clear();
  Trainer trainer(network, objective, train);
  const TensorBatch images = detail::worst_batch(*network, options, batch);
  trainer.step(images);
  reset_allocator_peaks();
  const std::int64_t before = allocator_statistics().live;
  {
    const LayerWatch watch(*network, account.layers);
    trainer.step(images);
  }
  malloc_trim(0);  // free memory of malloc's is no part of the program
  account.runtime = std::max<std::int64_t>(
      0, read_memory_limits().own_resident - allocator_statistics().reserved);
  account.trace = take_allocation_trace();
  account.gaps = gaps_in(replay_allocations(account.trace));
  account.parameters = bytes_of(network->parameters());
  account.buffers = bytes_of(network->buffers());
  for (const torch::Tensor& parameter : network->parameters())
    if (parameter.requires_grad())
      account.gradients += static_cast<std::int64_t>(parameter.nbytes());
  account.optimizer = bytes_of(trainer.checkpoint().optimizer);
  if (train.ema.decay > 0) account.ema = bytes_of(trainer.ema().state());
  // The bytes of the images, and the floats they become.
  account.input = static_cast<std::int64_t>(images.images.nbytes()) * 5;
  for (LayerBytes& layer : account.layers) {
    layer.bytes = std::max<std::int64_t>(0, layer.bytes);
    account.activations += layer.bytes;
  }
  // Beyond what layers keep, at the end of the forward pass or in the loss: the backward pass gives
  // activations back as gradients come.
  const auto phases = allocator_phases();
  const std::int64_t peak = std::max(phases.at("forward").live, phases.at("loss").live);
  const std::int64_t floats = account.input / 5 * 4;
  account.workspace = std::max<std::int64_t>(0, peak - before - account.activations - floats);
  return account;
}

MemoryAccount scale_account(const MemoryAccount& fewer_pixels, const MemoryAccount& more_pixels,
                            std::int64_t image_size, std::int64_t batch) {
  const auto pixels = [](std::int64_t side, std::int64_t images) {
    return static_cast<double>(side) * static_cast<double>(side) * static_cast<double>(images);
  };
  const double less = pixels(fewer_pixels.image_size, fewer_pixels.batch);
  const double more = pixels(more_pixels.image_size, more_pixels.batch);
  const double factor = (pixels(image_size, batch) - more) / (more - less);
  const auto scaled = [&](std::int64_t then, std::int64_t now) {
    const auto growth = static_cast<double>(std::max<std::int64_t>(0, now - then));
    return std::max<std::int64_t>(0, now + static_cast<std::int64_t>(growth * factor));
  };
  MemoryAccount result = more_pixels;
  result.batch = batch;
  result.image_size = image_size;
  result.input = scaled(fewer_pixels.input, more_pixels.input);
  result.activations = scaled(fewer_pixels.activations, more_pixels.activations);
  result.workspace = scaled(fewer_pixels.workspace, more_pixels.workspace);
  // In this model an image is a pixel.
  std::vector<Measurement> steps;
  for (const MemoryAccount* account : {&fewer_pixels, &more_pixels})
    steps.push_back(
        {.batch = static_cast<std::int64_t>(pixels(account->image_size, account->batch)),
         .trace = account->trace});
  const MemoryModel model(steps);
  if (model.replays())
    result.gaps = gaps_in(model.replayed(static_cast<std::int64_t>(pixels(image_size, batch))));
  for (std::size_t i = 0; i < result.layers.size() && i < fewer_pixels.layers.size(); ++i)
    result.layers[i].bytes = scaled(fewer_pixels.layers[i].bytes, result.layers[i].bytes);
  return result;
}

}  // namespace brim::autotune
