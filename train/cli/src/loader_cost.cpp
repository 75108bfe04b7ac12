#include "loader_cost.h"

#include <chrono>

#include "brim/dataloader/loader.h"
#include "experiment.h"

namespace brim::cli {
namespace {

constexpr double kSeconds = 0.4;  // of each of the two runs

/// Images per second that a loader of `options` delivers to a consumer that only takes them.
double images_per_second(const std::shared_ptr<const Dataset>& dataset, const Config& config,
                         Task task, const LoaderOptions& options) {
  using Clock = std::chrono::steady_clock;
  Loader loader(dataset, training_transform(config, task), options);
  loader.start(0);
  std::int64_t images = 0;
  if (!loader.next()) return 0;  // threads start and the window fills
  const auto begin = Clock::now();
  double seconds = 0;
  while (seconds < kSeconds) {
    const auto batch = loader.next();
    if (!batch) break;
    images += batch->size();
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return seconds > 0 ? static_cast<double>(images) / seconds : 0;
}

}  // namespace

CorePlan plan_cores(const Config& config, std::shared_ptr<const Dataset> dataset, Task task,
                    const std::shared_ptr<MemoryBudget>& budget, const autotune::BatchPlan& batch) {
  CorePlan plan;
  LoaderOptions options = training_loader(config, *dataset, 4, nullptr, budget);
  options.workers = 0;
  const double alone = images_per_second(dataset, config, task, options);
  if (alone <= 0 || batch.predicted_images_per_second <= 0) return plan;
  plan.loader_seconds_per_image = 1 / alone;
  plan.joint =
      autotune::plan_jointly({.cores = available_cpus(),
                              .train_seconds_per_image = 1 / batch.predicted_images_per_second,
                              .train_threads = compute_threads(config),
                              .loader_seconds_per_image = plan.loader_seconds_per_image,
                              .trains_on_cores = config.train.device == "cpu"});
  options.workers = plan.joint.chosen.workers;
  plan.verified_images_per_second = images_per_second(dataset, config, task, options);
  return plan;
}

}  // namespace brim::cli
