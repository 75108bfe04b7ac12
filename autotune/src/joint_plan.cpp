#include "brim/autotune/joint_plan.h"

#include <algorithm>
#include <cstdio>

namespace brim::autotune {
namespace {

constexpr double kTolerance = 0.01;

/// Seconds per image with `threads`, from what `costs.train_threads` took (Amdahl's law); another
/// device takes the same whatever the threads.
double train_seconds(const JointCosts& costs, int threads) {
  if (!costs.trains_on_cores) return costs.train_seconds_per_image;
  const double serial = costs.serial_share;
  const auto factor = [&](int t) { return serial + (1 - serial) / t; };
  return costs.train_seconds_per_image * factor(threads) / factor(costs.train_threads);
}

struct Bounds {
  double training, loading, cores;
  double least() const { return std::min({training, loading, cores}); }
};

Bounds bounds_of(const JointCosts& costs, int threads, int workers) {
  constexpr double kNoBound = 1e12;
  const double train = train_seconds(costs, threads), load = costs.loader_seconds_per_image;
  const double on_cores = (costs.trains_on_cores ? threads * train : 0) + load;
  return {train > 0 ? 1 / train : kNoBound, load > 0 ? workers / load : kNoBound,
          on_cores > 0 ? costs.cores / on_cores : kNoBound};
}

}  // namespace

JointPlan plan_jointly(const JointCosts& costs, int most_workers) {
  JointPlan plan;
  const int threads = costs.trains_on_cores ? costs.cores : 1;
  for (int t = 1; t <= threads; ++t)
    for (int w = 1; w <= std::min(costs.cores, most_workers); ++w)
      plan.considered.push_back({t, w, bounds_of(costs, t, w).least()});
  std::stable_sort(plan.considered.begin(), plan.considered.end(),
                   [](const JointSplit& a, const JointSplit& b) {
                     return a.images_per_second > b.images_per_second;
                   });
  plan.chosen = plan.considered.front();
  const double enough = plan.chosen.images_per_second * (1 - kTolerance);
  for (const JointSplit& split : plan.considered) {
    if (split.images_per_second < enough) break;
    const bool fewer = split.workers != plan.chosen.workers ? split.workers < plan.chosen.workers
                                                            : split.threads < plan.chosen.threads;
    if (fewer) plan.chosen = split;
  }
  const Bounds bounds = bounds_of(costs, plan.chosen.threads, plan.chosen.workers);
  plan.limited_by = bounds.least() == bounds.training  ? "training"
                    : bounds.least() == bounds.loading ? "loading"
                                                       : "cores";
  char text[300];
  std::snprintf(text, sizeof text,
                "%d training threads and %d workers on %d cores: about %.1f images/s, limited by "
                "%s (an image takes %.1f ms to train on, %.1f ms to load)",
                plan.chosen.threads, plan.chosen.workers, costs.cores,
                plan.chosen.images_per_second, plan.limited_by.c_str(),
                1e3 * train_seconds(costs, plan.chosen.threads),
                1e3 * costs.loader_seconds_per_image);
  plan.why = text;
  return plan;
}

}  // namespace brim::autotune
