#include "loader_cost.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>

#include "brim/dataloader/loader.h"
#include "experiment.h"

namespace brim::cli {
namespace {

constexpr double kSeconds = 0.25;  // of each of the two runs

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

LoaderOptions small_batches(const Config& config, const Dataset& dataset,
                            const std::shared_ptr<MemoryBudget>& budget, int workers) {
  LoaderOptions options = training_loader(config, dataset, 4, nullptr, budget);
  options.workers = workers;
  return options;
}

}  // namespace

std::string plan_cache(Config& config, const Dataset& dataset, Task task, std::int64_t batch,
                       const std::shared_ptr<MemoryBudget>& budget, std::int64_t training_bytes) {
  constexpr std::int64_t kLeast = std::int64_t{1} << 20;
  const auto transform = training_transform(config, task);
  const bool size_is_open = config.loader.cache_size == "auto";
  auto room = budget;
  std::int64_t left = 0;
  if (training_bytes > 0) {
    // The loader's own bytes are part of the training's here and of the room there.
    const std::int64_t loader = make_plan(training_loader(config, dataset, batch, nullptr, budget),
                                          dataset, *transform, *budget)
                                    .total_bytes;
    left = std::max(kLeast, budget->limit() - budget->limit() / 50 - training_bytes);
    room = MemoryBudget::make({.byte_limit = left + loader, .fraction = 1.0});
  }
  const std::string why = decide_cache(config, dataset, *transform, batch, room);
  if (size_is_open && left > 0 && config.loader.cache == "ram")
    config.loader.cache_size = std::to_string(left);
  return why;
}

double loaded_by_one_thread(const Config& config, const std::shared_ptr<const Dataset>& dataset,
                            Task task, const std::shared_ptr<MemoryBudget>& budget) {
  const double found =
      images_per_second(dataset, config, task, small_batches(config, *dataset, budget, 0));
  malloc_trim(0);  // a child is to be measured in what this process leaves
  return found;
}

CorePlan plan_cores(const Config& config, const std::shared_ptr<const Dataset>& dataset, Task task,
                    const std::shared_ptr<MemoryBudget>& budget, const autotune::BatchPlan& batch,
                    double loaded_by_one_thread) {
  CorePlan plan;
  const bool trains_here = config.train.device == "cpu";
  if (loaded_by_one_thread <= 0 || batch.predicted_images_per_second <= 0) return plan;
  plan.loader_seconds_per_image = 1 / loaded_by_one_thread;
  plan.joint =
      autotune::plan_jointly({.cores = available_cpus(),
                              .train_seconds_per_image = 1 / batch.predicted_images_per_second,
                              .train_threads = compute_threads(config),
                              .loader_seconds_per_image = plan.loader_seconds_per_image,
                              .trains_on_cores = trains_here});
  plan.verified_images_per_second = images_per_second(
      dataset, config, task, small_batches(config, *dataset, budget, plan.joint.chosen.workers));
  Config chosen = config;
  plan.cache_why = plan_cache(chosen, *dataset, task, batch.batch, budget,
                              trains_here ? batch.predicted_peak_bytes : 0);
  plan.cache = chosen.loader.cache;
  plan.content = chosen.loader.content;
  if (plan.cache == "ram" && chosen.loader.cache_size != "auto")
    plan.cache_bytes = parse_bytes(chosen.loader.cache_size, "loader.cache_size");
  LoaderOptions whole = training_loader(config, *dataset, batch.batch, nullptr, budget);
  whole.workers = plan.joint.chosen.workers;
  plan.prefetch_batches =
      make_plan(whole, *dataset, *training_transform(config, task), *budget).prefetch_batches;
  return plan;
}

}  // namespace brim::cli
