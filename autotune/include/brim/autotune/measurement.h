#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brim/train/allocation_trace.h"

namespace brim::autotune {

enum class Outcome {
  Fits,
  OutOfMemory,  ///< the allocator's cap or the system refused
  Died,         ///< killed, crashed or ran past its time: counts as "does not fit"
};

/// What one probe found at one micro-batch size.
struct Measurement {
  std::int64_t batch = 0;
  Outcome outcome = Outcome::Died;
  /// On a GPU all bytes are the device's: what this process took there beyond its context.
  std::int64_t tensor_peak_bytes = 0;    ///< live tensors, worst moment of step and evaluation
  std::int64_t reserved_peak_bytes = 0;  ///< what the allocator took from the system for them
  std::int64_t resident_peak_bytes = 0;  ///< of the whole process
  std::int64_t idle_bytes = 0;           ///< resident before the probe's first batch; 0: not known
  double seconds_per_step = 0;           ///< forward and backward, fastest of the timed steps
  double optimizer_seconds = 0;          ///< once per effective batch; 0: within seconds_per_step
  double wall_seconds = 0;               ///< the whole probe, process start included
  std::int64_t byte_budget = 0;          ///< what there is, where the probe finds out (a GPU's)
  std::string detail{};                  ///< why it did not fit
  AllocationTrace trace{};               ///< of the whole probe; empty without brim's allocator
  /// Without the optimiser, whose share depends on how many micro-batches it serves.
  double images_per_second() const {
    return seconds_per_step > 0 ? static_cast<double>(batch) / seconds_per_step : 0;
  }
};

/// Measures one micro-batch size; any failure is an Outcome, never an exception.
using Probe = std::function<Measurement(std::int64_t batch)>;

/// value(batch) = constant + slope * batch, least squares over measurements.
struct AffineFit {
  double constant = 0;
  double slope = 0;
  double relative_error = 0;  ///< largest |residual| / value; 0 with two points
  double at(double batch) const { return constant + slope * batch; }
};
AffineFit fit_affine(const std::vector<double>& batches, const std::vector<double>& values);

}  // namespace brim::autotune
