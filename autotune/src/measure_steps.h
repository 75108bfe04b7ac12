#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <functional>

#include "brim/autotune/measurement.h"

namespace brim::autotune::detail {

/// Runs `run` and tells what it took on `device`: its memory peaks and, on the CPU, its allocation
/// trace. `run` sets the times. Out-of-memory in any shape is an Outcome, all else is passed on. On
/// a GPU a size counts as too large, too, when cached blocks had to be given back to go on: such
/// steps are slow and the next one may fail.
Measurement measure_run(std::int64_t batch, torch::Device device,
                        const std::function<void(Measurement&)>& run);

/// measure_run of `steps` equal steps; the fastest of all but the first counts.
Measurement measure_steps(std::int64_t batch, int steps, torch::Device device,
                          const std::function<void()>& step);

/// Bytes of a GPU that this process can have in all, as found when first asked: what is free and
/// what it holds already.
std::int64_t device_capacity(torch::Device device);

}  // namespace brim::autotune::detail
