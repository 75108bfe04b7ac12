#include <torch/nn/functional/upsampling.h>

#include <cmath>
#include <utility>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"
#include "trainer_impl.h"

namespace brim {
namespace {

torch::Tensor resized(const torch::Tensor& images, std::int64_t height, std::int64_t width) {
  namespace F = torch::nn::functional;
  return F::interpolate(images, F::InterpolateFuncOptions()
                                    .size(std::vector<std::int64_t>{height, width})
                                    .mode(torch::kBilinear)
                                    .align_corners(false));
}
}  // namespace

/// Half precision goes to the network as it is: autocast would make a second pass of it. Resizing
/// counts in float.
torch::Tensor Trainer::Impl::network_input(const torch::Tensor& bytes, std::int64_t height,
                                           std::int64_t width) const {
  const bool as_is = bytes.size(2) == height && bytes.size(3) == width;
  const bool half = precision == Precision::Fp16 && as_is;
  const torch::Tensor images = normalize_images(bytes, half ? torch::kHalf : torch::kFloat);
  return as_is ? images : resized(images, height, width);
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

TensorBatch Trainer::Impl::shown(const TensorBatch& part) {
  TensorBatch own = detail::without_padding(part);
  statistics->counts = own.size() > 0;
  // A rank without a sample of its own shows one that does not count: the others wait for it.
  return statistics->counts ? own : detail::slice(part, 0, 1);
}

NetworkOutput Trainer::Impl::run_network(const torch::Tensor& bytes, std::int64_t height,
                                         std::int64_t width) {
  const AllocatorPhase phase("forward");
  const AutocastScope autocast(precision, options.device);
  return network->forward(network_input(bytes, height, width));
}

void Trainer::Impl::pass(const StepPart& part, std::int64_t height, std::int64_t width,
                         const TensorBatch& all, torch::Tensor& components) {
  if (part.first == 0) components = torch::Tensor();
  const TensorBatch images = shown(part.batch);
  const SharedStatisticsScope sharing(together() ? statistics : nullptr);
  NetworkOutput output = run_network(images.images, height, width);
  if (precision != Precision::Fp32) output = in_float(std::move(output));
  LossResult loss;
  {
    const AllocatorPhase phase("loss");
    loss = objective->partial_loss(output, images, together() ? all : part.whole);
    if (!statistics->counts) loss.total = loss.total * 0;
  }
  output = {};
  {
    const AllocatorPhase phase("backward");
    const bool last = part.first + part.batch.size() >= part.whole.size();
    if (reducer && last && window_ends()) reducer->arm(surviving->set_aside());
    (scaler.enabled() ? loss.total * scaler.scale() : loss.total).backward();
  }
  const std::int64_t counted = statistics->counts ? images.size() : 0;
  const torch::Tensor sums = loss.components * static_cast<double>(counted);
  components = components.defined() ? components + sums : sums;
}

void Trainer::Impl::note_repeated(const SurvivedStep& done) {
  std::string text = "out of memory: batch " + std::to_string(batch) + " was repeated as " +
                     std::to_string(done.parts) + " micro-batches of " + std::to_string(done.part) +
                     " images; ";
  text += done.allowed > 0 ? "the run goes on with at most " + std::to_string(done.allowed)
                           : "the run goes on so";
  if (network->activations() == Activations::Recompute) text += ", activations are recomputed";
  note(Note::Kind::OutOfMemory, text + " (" + done.why + ")");
}

StepEvent Trainer::Impl::train_on(const TensorBatch& whole) {
  const detail::Stopwatch time;
  StepEvent event;
  event.epoch = epoch;
  event.batch = batch;
  event.batches = batches;
  event.step = step;
  agree(whole);
  event.images = agreed.images;
  const TensorBatch all = together() ? batch_of_all(whole) : TensorBatch();
  const auto [height, width] = target_size(whole.images);
  const std::int64_t pixels = height * width;
  if (agreed.parts > 0) surviving->limit(agreed.parts * pixels);
  torch::Tensor components;
  const SurvivedStep done = surviving->run(
      whole,
      [&, h = height, w = width](const StepPart& part) { pass(part, h, w, all, components); },
      pixels);
  if (reducer && window_ends()) reducer->finish();
  options.group->reduce(components, Reduction::Sum);
  event.micro_batches = done.parts;
  event.width = width;
  event.height = height;
  if (done.reduced) note_repeated(done);
  if (done.part < std::min(whole.size(), kSmallMicroBatch) && !warned_small) {
    warned_small = true;
    note(Note::Kind::SmallMicroBatch,
         "micro-batches of " + std::to_string(done.part) +
             " images: batch-norm statistics are taken from few images and may be poor");
  }
  detail::with_memory(options.device, [&] {
    component_sums = component_sums.defined() ? component_sums + components : components;
  });
  component_images += agreed.images;
  epoch_images += agreed.images;
  window_images += agreed.images;
  apply_gradients(event);
  ++batch;
  ++step;
  detail::with_memory(options.device, [&] { event.mean_components = mean_components(); });
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
  if (!window_ends()) return;
  const AllocatorPhase phase("optimizer");
  double factor = 1.0 / scaler.scale();
  if (options.join == GradientJoin::Mean) factor /= static_cast<double>(window_images);
  // On the CPU the sweep over the weights allocates nothing: what can fail comes before it.
  StepResult result;
  detail::with_memory(options.device, [&] {
    result = optimizer->step(
        {.max_norm = options.clip_norm, .gradient_factor = factor, .ema = ema.get()});
  });
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
