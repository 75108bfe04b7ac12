#pragma once

#include <cstdint>
#include <memory>

#include "brim/autotune/measurement.h"
#include "brim/train/network.h"
#include "brim/train/objective.h"
#include "brim/train/trainer.h"

namespace brim::autotune {

/// The worst batch that the run will meet.
struct TrainingProbeOptions {
  std::int64_t image_size = 640;      ///< largest side, multi-scale included
  std::int64_t boxes_per_image = 32;  ///< most labels an image (a mosaic of four) has
  int steps = 3;                      ///< the second already holds the optimiser's state
  TrainOptions train{};               ///< batch size and accumulation are set by the probe
};

/// Measures real training in this process: `steps` optimiser steps with moving average on made-up
/// worst-case batches of `batch` images, then one evaluation batch. Out-of-memory and a micro-batch
/// split count as Outcome::OutOfMemory. Resident peak is the process's own.
Measurement measure_training(const std::shared_ptr<Network>& network,
                             const std::shared_ptr<Objective>& objective,
                             const TrainingProbeOptions& options, std::int64_t batch);

}  // namespace brim::autotune
