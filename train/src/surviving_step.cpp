#include "brim/train/surviving_step.h"

#include <algorithm>

#include "brim/cache/error.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"

namespace brim {
namespace {
constexpr double kRoom = 0.95;  // of the limit that a computed part may take

std::int64_t live_bytes(torch::Device device) {
  return device.is_cpu() ? allocator_statistics().live : device_use(device).live;
}
}  // namespace

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

void detail::with_memory(torch::Device device, const std::function<void()>& action) {
  try {
    action();
    return;
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
  }
  release_device_memory(device);
  action();
}

detail::BackwardQueue::BackwardQueue() {
  const torch::AutoGradMode recording(true);
  leaf_ = torch::zeros({}, torch::requires_grad());
  root_ = leaf_ + 1;
}

void detail::BackwardQueue::clear() {
  try {
    torch::autograd::grad({root_}, {leaf_}, {}, /*retain_graph=*/true);
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
  }
}

SurvivingStep::SurvivingStep(torch::nn::Module& network, torch::Device device,
                             const SurvivingStepOptions& options)
    : device_(device),
      options_(options),
      snapshot_(network, device),
      grow_after_(options.grow_after) {}

std::int64_t SurvivingStep::part_size(std::int64_t images, std::int64_t pixels) const {
  std::int64_t part = options_.micro_batch > 0 ? std::min(images, options_.micro_batch) : images;
  if (allowed_pixels_ > 0)
    part = std::min(part, std::max<std::int64_t>(1, allowed_pixels_ / pixels));
  // Equal parts: 10 images at most 6 each are 5 and 5.
  const std::int64_t parts = (images + part - 1) / part;
  return (images + parts - 1) / parts;
}

/// False when memory ran out; everything is then as before.
bool SurvivingStep::attempt(const TensorBatch& whole, std::int64_t part, const Pass& pass,
                            std::string& why) {
  detail::with_memory(device_, [&] { snapshot_.take(); });
  try {
    const AllocatorPhase phase("step");
    mark_device_peaks(device_);
    const std::int64_t before = live_bytes(device_);
    for (std::int64_t begin = 0; begin < whole.size(); begin += part) {
      const TensorBatch images = detail::slice(whole, begin, std::min(whole.size(), begin + part));
      pass({images, whole, begin});
    }
    const std::int64_t peak =
        device_.is_cpu() ? phase.peak_live() : device_use(device_).marked_live;
    peak_bytes_ = peak - before;
  } catch (const std::exception& error) {
    // Undone in any case: whoever catches an error finds the training as it was.
    snapshot_.restore();
    backward_queue_.clear();
    if (!is_out_of_memory(error)) throw;
    const std::string text = error.what();
    why = text.substr(0, text.find('\n'));
    if (options_.ranks == SurvivingStepOptions::Ranks::Together)
      throw Error(
          "out of memory with " + std::to_string(part) + " images at once on this rank: " + why,
          {.key = "train.batch"},
          "go on from the last checkpoint with a smaller --batch or more --memory");
    return false;
  }
  snapshot_.commit();
  return true;
}

/// Bytes that a step may take beyond what is live now; 0: not known.
std::int64_t SurvivingStep::room() const {
  std::int64_t ceiling = 0;
  if (device_.is_cpu()) {
    ceiling = allocator_statistics().ceiling;
  } else {
    ceiling = device_memory(device_).free + device_use(device_).reserved;
    if (const std::int64_t limit = device_limit(device_); limit > 0)
      ceiling = std::min(ceiling, limit);
  }
  if (ceiling <= 0) return 0;
  return static_cast<std::int64_t>(static_cast<double>(ceiling - live_bytes(device_)) * kRoom);
}

/// After a success: what a pixel takes, and after a reduced one the largest size that fits.
void SurvivingStep::learn(std::int64_t part_pixels) {
  if (options_.ranks == SurvivingStepOptions::Ranks::Together) return;
  if (peak_bytes_ > 0)
    bytes_per_pixel_ = std::max(
        bytes_per_pixel_, static_cast<double>(peak_bytes_) / static_cast<double>(part_pixels));
  if (failed_pixels_ == 0) return;
  allowed_pixels_ = std::max(allowed_pixels_, part_pixels);
  const std::int64_t bytes = room();
  if (bytes <= 0 || bytes_per_pixel_ <= 0) return;
  const auto fits = static_cast<std::int64_t>(static_cast<double>(bytes) / bytes_per_pixel_);
  allowed_pixels_ = std::max(allowed_pixels_, std::min(fits, failed_pixels_ - 1));
}

/// Memory may have become free since: after a while one larger part is tried.
void SurvivingStep::maybe_grow() {
  if (options_.ranks == SurvivingStepOptions::Ranks::Together) return;
  if (failed_pixels_ == 0 || grow_after_ <= 0 || ++calm_steps_ < grow_after_) return;
  calm_steps_ = 0;
  const std::int64_t bytes = room();
  const bool fits = bytes <= 0 || bytes_per_pixel_ * static_cast<double>(failed_pixels_) <
                                      static_cast<double>(bytes);
  if (!fits) return;
  allowed_pixels_ = failed_pixels_ = 0;
  grow_after_ *= 2;
}

SurvivedStep SurvivingStep::run(const TensorBatch& batch, const Pass& pass, std::int64_t pixels) {
  if (pixels <= 0) pixels = batch.images.size(2) * batch.images.size(3);
  SurvivedStep result;
  maybe_grow();
  std::int64_t part = part_size(batch.size(), pixels);
  while (!attempt(batch, part, pass, result.why)) {
    ++failures_;
    calm_steps_ = 0;
    detail::release_device_memory(device_);
    result.reduced = true;
    if (options_.instead && options_.instead(part)) {
      bytes_per_pixel_ = 0;  // no longer what a step takes
      continue;
    }
    const std::int64_t failed = part * pixels;
    failed_pixels_ = failed_pixels_ == 0 ? failed : std::min(failed_pixels_, failed);
    if (!reduce(part, pixels))
      throw Error("out of memory with a single image of " + std::to_string(batch.images.size(3)) +
                      "x" + std::to_string(batch.images.size(2)) + ": " + result.why,
                  {.key = "memory.limit"},
                  "use smaller images, a smaller model or a larger --memory");
    part = part_size(batch.size(), pixels);
  }
  learn(part * pixels);
  result.part = part;
  result.parts = static_cast<int>((batch.size() + part - 1) / part);
  if (allowed_pixels_ > 0) result.allowed = std::max<std::int64_t>(1, allowed_pixels_ / pixels);
  return result;
}

void SurvivingStep::limit(std::int64_t pixels) {
  allowed_pixels_ = std::max<std::int64_t>(1, pixels);
  if (failed_pixels_ == 0) failed_pixels_ = allowed_pixels_ + 1;
  calm_steps_ = 0;
}

/// After `images` per part did not fit: fewer. False when there are none fewer.
bool SurvivingStep::reduce(std::int64_t images, std::int64_t pixels) {
  if (images <= 1) return false;
  std::int64_t next = (images + 1) / 2;
  // Where it is known what a pixel takes, the size is computed instead of halved.
  if (const std::int64_t bytes = room(); bytes > 0 && bytes_per_pixel_ > 0) {
    const auto fits =
        static_cast<std::int64_t>(static_cast<double>(bytes) / bytes_per_pixel_) / pixels;
    if (fits < images) next = std::max<std::int64_t>(1, fits);
  }
  allowed_pixels_ = next * pixels;
  return true;
}

}  // namespace brim
