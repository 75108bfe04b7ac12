#pragma once

#include <cstdint>
#include <functional>

#include "brim/autotune/measurement.h"

namespace brim::autotune::detail {

/// Runs `run` and tells what it took: its memory peaks and its allocation trace. `run` sets the
/// times. Out-of-memory in any shape is an Outcome, all else is passed on.
Measurement measure_run(std::int64_t batch, const std::function<void(Measurement&)>& run);

/// measure_run of `steps` equal steps; the fastest of all but the first counts.
Measurement measure_steps(std::int64_t batch, int steps, const std::function<void()>& step);

}  // namespace brim::autotune::detail
