#pragma once

#include <memory>

#include "brim/autotune/joint_plan.h"
#include "brim/autotune/search.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/dataset.h"
#include "config.h"

namespace brim::cli {

/// What the loader costs and how the cores are best shared with the training that `batch` plans.
struct CorePlan {
  autotune::JointPlan joint{};
  double loader_seconds_per_image = 0;  ///< of one core, measured
  double verified_images_per_second =
      0;  ///< of the loader alone with the chosen workers; 0: not run
};

/// Loads images of `dataset` as the training would, for about a second in all: on one thread to
/// learn what an image costs, then with the workers that were chosen to see that they deliver.
CorePlan plan_cores(const Config& config, std::shared_ptr<const Dataset> dataset, Task task,
                    const std::shared_ptr<MemoryBudget>& budget, const autotune::BatchPlan& batch);

}  // namespace brim::cli
