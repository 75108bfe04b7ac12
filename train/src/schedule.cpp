#include "brim/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace brim {
namespace {

/// From `begin` at step 0 to `end` at step `length`, along a line.
double ramp(std::int64_t step, std::int64_t length, double begin, double end) {
  if (step >= length) return end;
  return (end - begin) / static_cast<double>(length) * static_cast<double>(step) + begin;
}

/// Rounds halves to the even neighbour whatever the floating-point environment.
double round_half_even(double value) {
  const double below = std::floor(value), rest = value - below;
  if (rest != 0.5) return rest < 0.5 ? below : below + 1;
  return std::fmod(below, 2.0) == 0 ? below : below + 1;
}

/// Epochs after which the rate of `step` is the one to take.
double decayed_epochs(const ScheduleOptions& o, std::int64_t step, std::int64_t warmup) {
  const auto batches = static_cast<double>(std::max<std::int64_t>(o.batches_per_epoch, 1));
  const double epochs = static_cast<double>(step) / batches;
  if (o.decay == Decay::PerStep) return epochs;
  const double begun = std::floor(epochs);
  if (o.decay == Decay::PerEpoch || step <= warmup) return begun;
  return std::max(begun - 1, std::floor(static_cast<double>(warmup) / batches));
}

}  // namespace

std::int64_t warmup_steps(const ScheduleOptions& o) {
  if (o.warmup_epochs <= 0) return 0;
  const double wished = o.warmup_epochs * static_cast<double>(o.batches_per_epoch);
  return std::max(static_cast<std::int64_t>(round_half_even(wished)), o.min_warmup_steps);
}

double decay_factor(const ScheduleOptions& o, double epochs) {
  const double done = epochs / static_cast<double>(std::max<std::int64_t>(o.epochs, 1));
  if (o.cosine) return (1 - std::cos(done * std::numbers::pi)) / 2 * (o.lrf - 1) + 1;
  return (1 - done) * (1.0 - o.lrf) + o.lrf;
}

ScheduleStep schedule_at(const ScheduleOptions& o, std::int64_t step) {
  const std::int64_t warmup = warmup_steps(o);
  const double lr = o.lr0 * decay_factor(o, decayed_epochs(o, step, warmup));
  const double full = static_cast<double>(o.nominal_batch) /
                      static_cast<double>(std::max<std::int64_t>(o.batch_size, 1));
  ScheduleStep s;
  s.lr_bias = ramp(step, warmup, o.warmup_bias_lr, lr);
  s.lr_weight = s.lr_norm = ramp(step, warmup, 0.0, lr);
  s.momentum = ramp(step, warmup, o.warmup_momentum, o.momentum);
  s.accumulate = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(round_half_even(ramp(step, warmup, 1.0, full))));
  return s;
}

bool AccumulationWindow::closes(std::int64_t step, std::int64_t accumulate) {
  if (step - last_step_ < accumulate) return false;
  last_step_ = step;
  return true;
}

}  // namespace brim
