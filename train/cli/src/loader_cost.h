#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "brim/autotune/joint_plan.h"
#include "brim/autotune/search.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/dataset.h"
#include "config.h"

namespace brim::cli {

/// What the loader costs, how the cores are best shared with the training that `batch` plans, and
/// what the memory that it leaves is used for.
struct CorePlan {
  autotune::JointPlan joint{};
  double loader_seconds_per_image = 0;  ///< of one core, measured
  double verified_images_per_second =
      0;  ///< of the loader alone with the chosen workers; 0: not run
  int prefetch_batches = 0;
  std::string cache{}, content{};  ///< as loader.cache and loader.content
  std::int64_t cache_bytes = 0;    ///< most that a cache in memory may take; 0: not in memory
  std::string cache_why{};         ///< empty where the cache was given
};

/// Decides what `config` leaves open of the cache, within the memory that a training with a peak of
/// `training_bytes` leaves of `budget`; the size of a cache in memory is set. Returns the line that
/// tells the user why, empty where nothing was left open.
std::string plan_cache(Config& config, const Dataset& dataset, Task task, std::int64_t batch,
                       const std::shared_ptr<MemoryBudget>& budget, std::int64_t training_bytes);

/// Images per second that one thread loads of `dataset` as the training would; takes about a
/// quarter of a second. 0: none.
double loaded_by_one_thread(const Config& config, const std::shared_ptr<const Dataset>& dataset,
                            Task task, const std::shared_ptr<MemoryBudget>& budget);

/// Chooses from what one thread loads in a second, and runs the loader with the workers that were
/// chosen to see that they deliver.
CorePlan plan_cores(const Config& config, const std::shared_ptr<const Dataset>& dataset, Task task,
                    const std::shared_ptr<MemoryBudget>& budget, const autotune::BatchPlan& batch,
                    double loaded_by_one_thread);

}  // namespace brim::cli
