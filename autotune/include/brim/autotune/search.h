#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brim/autotune/measurement.h"

namespace brim::autotune {

/// What can vary.
struct SearchSpace {
  std::int64_t min_batch = 1;
  std::int64_t max_batch = 512;
  /// Sizes measured first; the largest that memory plainly forbids are left out.
  std::vector<std::int64_t> first_probes{4, 16};
};

/// What is good.
struct Goal {
  /// Resident bytes the training process may reach; 0: what the probe finds there is (on a GPU).
  std::int64_t byte_budget = 0;
  std::int64_t reserved_for_loader = 0;     ///< of them for loader and cache
  std::int64_t loader_bytes_per_image = 0;  ///< and for each image of a micro-batch besides
  /// Resident now in the process that will train, without tensors: its data set counts on top of
  /// what the probe finds. 0: it is the probe's process or one like it.
  std::int64_t own_bytes = 0;
  std::int64_t nominal_batch = 64;     ///< accumulation target; no micro-batch exceeds it
  std::int64_t batch_norm_floor = 16;  ///< below it statistics are poor: warned about
  double throughput_tolerance = 0.03;  ///< the smallest batch this close to the best wins
  double safety = 0.02;                ///< share of the budget left free for what is not seen
  std::int64_t fixed_batch = 0;        ///< the user's own choice, only verified; 0: none

  /// Of the budget, what may be planned for.
  double allowed_bytes() const { return static_cast<double>(byte_budget) * (1 - safety); }
  /// Of loader and cache where micro-batches have `batch` images.
  std::int64_t loader_bytes(std::int64_t batch) const {
    return reserved_for_loader + batch * loader_bytes_per_image;
  }
};

/// What was chosen, from what, and why.
struct BatchPlan {
  std::int64_t batch = 0;
  std::int64_t accumulate = 1;
  std::int64_t byte_budget = 0;           ///< that it was chosen for
  std::int64_t largest_batch = 0;         ///< that the memory model allows
  std::int64_t predicted_peak_bytes = 0;  ///< at `batch`
  std::int64_t measured_peak_bytes = 0;   ///< at `batch`; 0 where it was not probed
  std::int64_t program_bytes = 0;         ///< of the peak: neither tensors nor loader; 0: not known
  double predicted_images_per_second = 0;
  AffineFit memory{}, step_seconds{};
  std::vector<Measurement> tried{};
  std::vector<std::string> warnings{};
  std::string why{};
};

/// At most three probes: two small ones give the memory model and time as an affine function of the
/// batch. The choice is verified unless the model is known to hold there and leaves room, and is
/// corrected downwards while it does not fit. Throws Error, with the account, when not even
/// `space.min_batch` fits.
BatchPlan choose_batch(const SearchSpace& space, const Goal& goal, const Probe& probe);

}  // namespace brim::autotune
