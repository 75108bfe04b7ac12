#pragma once

#include <cstdint>
#include <functional>

#include "brim/autotune/measurement.h"

namespace brim::autotune::detail {

/// Runs `step` and tells how it went: out-of-memory in any shape is an Outcome, all else is passed
/// on. The fastest of all runs but the first counts; `finish` (evaluation) runs once at the end.
Measurement measure_steps(std::int64_t batch, int steps, const std::function<void()>& step,
                          const std::function<void()>& finish = {});

}  // namespace brim::autotune::detail
