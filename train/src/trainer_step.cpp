#include <torch/nn/functional/upsampling.h>

#include <cmath>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"
#include "trainer_impl.h"

namespace brim {
namespace {
constexpr std::int64_t kSmallMicroBatch = 16;  // below it batch-norm statistics become poor
constexpr double kRoom = 0.95;                 // of the limit that a computed part may take

torch::Tensor resized(const torch::Tensor& images, std::int64_t height, std::int64_t width) {
  if (images.size(2) == height && images.size(3) == width) return images;
  namespace F = torch::nn::functional;
  return F::interpolate(images, F::InterpolateFuncOptions()
                                    .size(std::vector<std::int64_t>{height, width})
                                    .mode(torch::kBilinear)
                                    .align_corners(false));
}
}  // namespace

NetworkOutput detail::in_float(NetworkOutput output) {
  if (output.predictions.defined()) output.predictions = output.predictions.to(torch::kFloat);
  for (torch::Tensor& level : output.levels) level = level.to(torch::kFloat);
  return output;
}

TensorBatch detail::slice(const TensorBatch& batch, std::int64_t begin, std::int64_t end) {
  if (begin == 0 && end == batch.size()) return batch;
  TensorBatch part;
  part.images = batch.images.slice(0, begin, end);
  part.number = batch.number;
  if (batch.class_ids.defined()) part.class_ids = batch.class_ids.slice(0, begin, end);
  if (batch.targets.defined()) {
    const torch::Tensor image = batch.targets.select(1, 0);
    part.targets = batch.targets.index({image.ge(begin).logical_and(image.lt(end))});
    part.targets.select(1, 0).sub_(begin);
  }
  const auto count = static_cast<std::int64_t>(batch.samples.size());
  if (count >= end) part.samples.assign(batch.samples.begin() + begin, batch.samples.begin() + end);
  return part;
}

StepPlan Trainer::Impl::plan() const {
  return options.schedule(epoch, batch, batches);
}

/// Multi-scale: sides of this batch, a multiple of the stride, chosen by (seed, step) alone.
std::pair<std::int64_t, std::int64_t> Trainer::Impl::target_size(
    const torch::Tensor& images) const {
  const std::int64_t height = images.size(2), width = images.size(3);
  if (options.multi_scale <= 0) return {height, width};
  const std::int64_t stride = network->max_stride();
  const auto longest = static_cast<double>(std::max(height, width));
  Generator random(mix64(options.seed, static_cast<std::uint64_t>(step)), Purpose::MultiScale);
  const double low = std::max(longest * (1 - options.multi_scale), static_cast<double>(stride));
  const double high = longest * (1 + options.multi_scale) + static_cast<double>(stride);
  const double factor = std::floor(random.uniform(low, high) / static_cast<double>(stride)) *
                        static_cast<double>(stride) / longest;
  const auto side = [&](std::int64_t size) {
    return static_cast<std::int64_t>(
               std::ceil(static_cast<double>(size) * factor / static_cast<double>(stride))) *
           stride;
  };
  return {side(height), side(width)};
}

/// Images per part when `images` of `pixels` each are to be trained on.
std::int64_t Trainer::Impl::parts_allowed(std::int64_t images, std::int64_t pixels) const {
  std::int64_t part = options.micro_batch > 0 ? std::min(images, options.micro_batch) : images;
  if (allowed_pixels > 0) part = std::min(part, std::max<std::int64_t>(1, allowed_pixels / pixels));
  // Equal parts: 10 images at most 6 each are 5 and 5.
  const std::int64_t parts = (images + part - 1) / part;
  return (images + parts - 1) / parts;
}

Trainer::Impl::Attempt Trainer::Impl::attempt(const TensorBatch& whole, std::int64_t part_images) {
  Attempt result;
  const AllocatorPhase phase("step");
  const std::int64_t before = allocator_statistics().live;
  const auto [height, width] = target_size(whole.images);
  result.height = height;
  result.width = width;
  result.part_pixels = part_images * height * width;
  const std::int64_t images = whole.size();
  for (std::int64_t begin = 0; begin < images; begin += part_images) {
    const TensorBatch part = detail::slice(whole, begin, std::min(images, begin + part_images));
    NetworkOutput output;
    {
      const AllocatorPhase forward("forward");
      const AutocastScope autocast(precision, options.device);
      output = network->forward(resized(normalize_images(part.images), height, width));
    }
    if (precision != Precision::Fp32) output = detail::in_float(std::move(output));
    LossResult loss;
    {
      const AllocatorPhase objective_phase("loss");
      loss = objective->partial_loss(output, part, whole);
    }
    output = {};
    {
      const AllocatorPhase backward("backward");
      (scaler.enabled() ? loss.total * scaler.scale() : loss.total).backward();
    }
    const torch::Tensor components = loss.components * static_cast<double>(part.size());
    result.components = result.components.defined() ? result.components + components : components;
  }
  result.peak_bytes = phase.peak_live() - before;
  return result;
}

/// False when memory ran out; everything is then as before.
bool Trainer::Impl::try_attempt(const TensorBatch& whole, std::int64_t part_images, Attempt& result,
                                std::string& why) {
  snapshot->take();
  try {
    result = attempt(whole, part_images);
  } catch (const std::exception& error) {
    // Undone in any case: whoever catches an error finds the training as it was.
    snapshot->restore();
    if (!is_out_of_memory(error)) throw;
    const std::string text = error.what();
    why = text.substr(0, text.find('\n'));
    return false;
  }
  snapshot->commit();
  return true;
}

/// After a success at a reduced size: the largest size that fits, from what this one took.
void Trainer::Impl::learn_part_size(const Attempt& done) {
  allowed_pixels = std::max(allowed_pixels, done.part_pixels);
  const AllocatorStatistics memory = allocator_statistics();
  if (memory.byte_limit <= 0 || done.peak_bytes <= 0) return;
  const double per_pixel =
      static_cast<double>(done.peak_bytes) / static_cast<double>(done.part_pixels);
  const double room = static_cast<double>(memory.byte_limit - memory.live) * kRoom;
  const auto fits = static_cast<std::int64_t>(room / per_pixel);
  allowed_pixels = std::max(allowed_pixels, std::min(fits, failed_pixels - 1));
}

StepEvent Trainer::Impl::train_on(const TensorBatch& whole) {
  const detail::Stopwatch time;
  StepEvent event;
  event.epoch = epoch;
  event.batch = batch;
  event.batches = batches;
  event.step = step;
  event.images = whole.size();
  const auto [height, width] = target_size(whole.images);
  const std::int64_t pixels = height * width;
  std::int64_t part = parts_allowed(whole.size(), pixels);
  Attempt done;
  std::string why;
  bool reduced = false;
  while (!try_attempt(whole, part, done, why)) {
    detail::release_device_memory(options.device);
    failed_pixels = failed_pixels == 0 ? part * pixels : std::min(failed_pixels, part * pixels);
    if (part == 1)
      throw Error("out of memory with a single image of " + std::to_string(width) + "x" +
                      std::to_string(height) + ": " + why,
                  {}, "use smaller images, a smaller model or a larger --memory");
    allowed_pixels = (part + 1) / 2 * pixels;
    part = parts_allowed(whole.size(), pixels);
    reduced = true;
  }
  event.micro_batches = static_cast<int>((whole.size() + part - 1) / part);
  event.width = done.width;
  event.height = done.height;
  if (reduced) {
    learn_part_size(done);
    note(Note::Kind::OutOfMemory,
         "out of memory: batch " + std::to_string(batch) + " was repeated as " +
             std::to_string(event.micro_batches) + " micro-batches of " + std::to_string(part) +
             " images; the run goes on with at most " +
             std::to_string(std::max<std::int64_t>(1, allowed_pixels / pixels)) + " (" + why + ")");
  }
  if (part < std::min(whole.size(), kSmallMicroBatch) && !warned_small) {
    warned_small = true;
    note(Note::Kind::SmallMicroBatch,
         "micro-batches of " + std::to_string(part) +
             " images: batch-norm statistics are taken from few images and may be poor");
  }
  component_sums = component_sums.defined() ? component_sums + done.components : done.components;
  component_images += whole.size();
  epoch_images += whole.size();
  window_images += whole.size();
  apply_gradients(event);
  ++batch;
  ++step;
  event.mean_components = mean_components();
  event.loss_scale = scaler.scale();
  event.step_seconds = time.seconds();
  return event;
}

void Trainer::Impl::apply_gradients(StepEvent& event) {
  const StepPlan now = plan();
  optimizer->set_learning_rates(now.rates);
  optimizer->set_momentum(now.momentum);
  event.rates = now.rates;
  event.momentum = now.momentum;
  if (step - last_optimizer_step < now.accumulate) return;
  const AllocatorPhase phase("optimizer");
  double factor = 1.0 / scaler.scale();
  if (options.join == GradientJoin::Mean) factor /= static_cast<double>(window_images);
  const StepResult result =
      optimizer->step({.max_norm = options.clip_norm, .gradient_factor = factor, .ema = ema.get()});
  optimizer->zero_grad();
  scaler.update(result.stepped);
  last_optimizer_step = step;
  window_images = 0;
  event.stepped = result.stepped;
  event.gradient_norm = result.gradient_norm;
  if (result.stepped) {
    not_finite_run = 0;
    return;
  }
  if (++not_finite_run > options.not_finite_limit)
    throw Error("gradients were not finite for " + std::to_string(not_finite_run) +
                    " optimiser steps in a row (epoch " + std::to_string(epoch) + ", batch " +
                    std::to_string(batch) + ")",
                {}, "lower the learning rate, or check the labels");
  if (!scaler.enabled())
    note(Note::Kind::NotFinite, "gradients were not finite; this optimiser step was left out");
}

}  // namespace brim
