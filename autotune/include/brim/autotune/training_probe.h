#pragma once

#include <cstdint>
#include <functional>
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
  TrainOptions train{};               ///< batch size and accumulation are set by the probe
};

/// What is trained; made anew for every measurement, so that each begins with an empty pool.
struct ProbeSubject {
  std::shared_ptr<Network> network;
  std::shared_ptr<Objective> objective;
  TrainingProbeOptions options{};
};

/// Measures real training in this process on made-up worst-case batches of `batch` images: an
/// optimiser step on two images (its state then exists), a step that leaves its gradients, one that
/// adds to them and moves the weights and their average, and an evaluation batch. The memory of
/// what `make` built is given back at the end. Out-of-memory and a micro-batch split count as
/// Outcome::OutOfMemory. Resident peak is the process's own. `device` is the one that the subject's
/// options name: its memory is measured.
Measurement measure_training(const std::function<ProbeSubject()>& make, std::int64_t batch,
                             torch::Device device = torch::kCPU);

}  // namespace brim::autotune
