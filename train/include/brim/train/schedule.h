#pragma once

#include <cstdint>

namespace brim {

/// When the learning rate falls: with each epoch, with each micro-batch, which brings a run of few
/// epochs down to `lrf` as well, or one epoch late once warm-up is over: so the original YOLOv5
/// program trains (the rates in its results.csv; its scheduler is set back by one at the start).
enum class Decay { PerEpoch, PerStep, PerEpochLate };

/// Settings of the learning-rate schedule under the names and defaults of YOLOv5's `hyp`.
struct ScheduleOptions {
  double lr0 = 0.01;  ///< learning rate after warm-up
  double lrf = 0.01;  ///< learning rate of the end, as a fraction of lr0
  double momentum = 0.937;
  double warmup_epochs = 3.0;  ///< at least `min_warmup_steps` micro-batches; 0: none
  std::int64_t min_warmup_steps = 100;
  double warmup_momentum = 0.8;  ///< at the first step
  double warmup_bias_lr = 0.1;   ///< of the biases at the first step; all else begins at 0
  bool cosine = false;           ///< falls along half a cosine wave instead of a line
  Decay decay = Decay::PerEpoch;
  std::int64_t epochs = 100;
  std::int64_t batches_per_epoch = 1;
  std::int64_t batch_size = 16;
  std::int64_t nominal_batch = 64;  ///< micro-batches are accumulated up to about this size
};

/// What the optimiser is set to for one micro-batch.
struct ScheduleStep {
  double lr_bias = 0, lr_weight = 0, lr_norm = 0;  ///< per parameter group
  double momentum = 0;                             ///< first beta of Adam
  std::int64_t accumulate = 1;                     ///< micro-batches per optimiser step
};

/// Length of the warm-up in micro-batches.
std::int64_t warmup_steps(const ScheduleOptions& options);
/// Fraction of lr0 after `epochs` (from 0, fractions allowed).
double decay_factor(const ScheduleOptions& options, double epochs);
/// The settings of micro-batch `step`, counted from 0 over the whole run. A pure function: a
/// resumed run needs the step alone.
ScheduleStep schedule_at(const ScheduleOptions& options, std::int64_t step);

/// Says after which micro-batches the optimiser steps: once `accumulate` of them have come since
/// it last did. A window may reach over the end of an epoch.
class AccumulationWindow {
 public:
  /// `last_step`: micro-batch of the last optimiser step before (a resumed run), -1: none.
  explicit AccumulationWindow(std::int64_t last_step = -1) : last_step_(last_step) {}
  /// Whether the optimiser steps after micro-batch `step`; if so the next window begins.
  bool closes(std::int64_t step, std::int64_t accumulate);
  std::int64_t last_step() const { return last_step_; }

 private:
  std::int64_t last_step_;
};

}  // namespace brim
