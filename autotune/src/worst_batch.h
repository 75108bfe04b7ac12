#pragma once

#include "brim/autotune/training_probe.h"

namespace brim::autotune::detail {

/// Made-up images and as many labels as `options` says: the fullest batch the run can meet.
TensorBatch worst_batch(const Network& network, const TrainingProbeOptions& options,
                        std::int64_t images);

}  // namespace brim::autotune::detail
