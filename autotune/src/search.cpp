#include "brim/autotune/search.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"

namespace brim::autotune {
namespace {

/// The measurements that a model can be made of, and that model.
void refit(BatchPlan& plan) {
  std::vector<double> batches, bytes, seconds;
  for (const Measurement& m : plan.tried) {
    if (m.outcome != Outcome::Fits) continue;
    batches.push_back(static_cast<double>(m.batch));
    bytes.push_back(static_cast<double>(m.resident_peak_bytes));
    seconds.push_back(m.seconds_per_step);
  }
  plan.memory = fit_affine(batches, bytes);
  plan.step_seconds = fit_affine(batches, seconds);
  plan.memory.slope = std::max(plan.memory.slope, 1.0);
  plan.step_seconds.constant = std::max(plan.step_seconds.constant, 0.0);
}

std::int64_t largest_that_fits(const BatchPlan& plan, double allowed_bytes,
                               const SearchSpace& space) {
  const double batch = (allowed_bytes - plan.memory.constant) / plan.memory.slope;
  if (batch < 1) return 0;
  return std::min(space.max_batch, static_cast<std::int64_t>(std::floor(batch)));
}

/// Smallest batch whose throughput b / (c + s b) is within `tolerance` of its limit 1 / s.
std::int64_t smallest_near_best(const AffineFit& seconds, double tolerance) {
  if (seconds.slope <= 0) return 1;
  const double batch = (1 - tolerance) * seconds.constant / (tolerance * seconds.slope);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(batch)));
}

/// The divisor of `nominal` nearest above `batch`, so that accumulation adds up evenly.
std::int64_t round_up_to_divisor(std::int64_t batch, std::int64_t nominal) {
  for (std::int64_t candidate = batch; candidate < nominal; ++candidate) {
    if (nominal % candidate == 0) return candidate;
  }
  return nominal;
}

std::int64_t round_down_to_divisor(std::int64_t batch, std::int64_t nominal) {
  for (std::int64_t candidate = std::min(batch, nominal); candidate > 1; --candidate) {
    if (nominal % candidate == 0) return candidate;
  }
  return 1;
}

std::string sentence(const BatchPlan& plan, const Goal& goal, bool limited_by_memory) {
  char text[400];
  std::snprintf(text, sizeof text,
                "batch %lld x %lld accumulated: %s; predicted %.1f images/s at %s of %s "
                "(largest that fits: %lld)",
                static_cast<long long>(plan.batch), static_cast<long long>(plan.accumulate),
                goal.fixed_batch > 0 ? "as asked"
                : limited_by_memory  ? "the largest that memory allows"
                : plan.batch == goal.batch_norm_floor
                    ? "larger ones gain less than the tolerance, smaller ones hurt batch "
                      "normalisation"
                    : "the smallest within the tolerance of the best throughput",
                plan.predicted_images_per_second, format_bytes(plan.predicted_peak_bytes).c_str(),
                format_bytes(goal.byte_budget).c_str(), static_cast<long long>(plan.largest_batch));
  return text;
}

[[noreturn]] void throw_too_small(const BatchPlan& plan, const Goal& goal) {
  std::string account;
  for (const Measurement& m : plan.tried) {
    account += "; batch " + std::to_string(m.batch) + " " +
               (m.outcome == Outcome::Fits ? "needs " + format_bytes(m.resident_peak_bytes)
                                           : "does not fit (" + m.detail + ")");
  }
  throw Error("the memory budget of " + format_bytes(goal.byte_budget) + " (" +
                  format_bytes(goal.reserved_for_loader) +
                  " of it for the loader) is too small for one image" + account,
              {.key = "memory.limit"},
              "lower train.img, choose a smaller model, or use train.precision=bf16");
}

}  // namespace

BatchPlan choose_batch(const SearchSpace& space, const Goal& goal, const Probe& probe) {
  constexpr std::size_t kMostProbes = 3;
  BatchPlan plan;
  const double allowed = static_cast<double>(goal.byte_budget) * (1 - goal.safety) -
                         static_cast<double>(goal.reserved_for_loader);

  std::vector<std::int64_t> first = space.first_probes;
  if (goal.fixed_batch > 0) first = {goal.fixed_batch};
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::int64_t batch = std::clamp(first[i], space.min_batch, space.max_batch);
    if (i > 0 && batch == first[i - 1]) continue;
    plan.tried.push_back(probe(batch));
    if (plan.tried.back().outcome != Outcome::Fits) break;
  }
  if (plan.tried.front().outcome != Outcome::Fits) {
    if (goal.fixed_batch > 0 || plan.tried.front().batch == space.min_batch) {
      throw_too_small(plan, goal);
    }
    plan.tried.push_back(probe(space.min_batch));
    if (plan.tried.back().outcome != Outcome::Fits) throw_too_small(plan, goal);
  }
  refit(plan);

  bool limited_by_memory = false;
  for (;;) {
    plan.largest_batch = std::max(largest_that_fits(plan, allowed, space), std::int64_t{0});
    for (const Measurement& m : plan.tried) {
      if (m.outcome != Outcome::Fits)
        plan.largest_batch = std::min(plan.largest_batch, m.batch - 1);
    }
    if (plan.largest_batch < space.min_batch) throw_too_small(plan, goal);
    std::int64_t wanted = goal.fixed_batch;
    if (wanted == 0) {
      wanted = std::max(smallest_near_best(plan.step_seconds, goal.throughput_tolerance),
                        goal.batch_norm_floor);
      wanted = round_up_to_divisor(std::min(wanted, goal.nominal_batch), goal.nominal_batch);
    }
    limited_by_memory = wanted > plan.largest_batch;
    plan.batch = limited_by_memory && goal.fixed_batch == 0
                     ? round_down_to_divisor(plan.largest_batch, goal.nominal_batch)
                     : wanted;
    if (limited_by_memory && goal.fixed_batch > 0) throw_too_small(plan, goal);

    const auto measured = std::find_if(plan.tried.begin(), plan.tried.end(),
                                       [&](const Measurement& m) { return m.batch == plan.batch; });
    if (measured != plan.tried.end()) {
      plan.measured_peak_bytes = measured->resident_peak_bytes;
      break;
    }
    const bool interpolated = std::any_of(plan.tried.begin(), plan.tried.end(), [&](const auto& m) {
      return m.outcome == Outcome::Fits && m.batch > plan.batch;
    });
    if (interpolated || plan.tried.size() >= kMostProbes) break;
    plan.tried.push_back(probe(plan.batch));
    if (plan.tried.back().outcome == Outcome::Fits) refit(plan);
  }

  plan.accumulate = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(std::llround(static_cast<double>(goal.nominal_batch) /
                                                static_cast<double>(plan.batch))));
  plan.predicted_peak_bytes =
      static_cast<std::int64_t>(plan.memory.at(static_cast<double>(plan.batch))) +
      goal.reserved_for_loader;
  const double seconds = plan.step_seconds.at(static_cast<double>(plan.batch));
  plan.predicted_images_per_second = seconds > 0 ? static_cast<double>(plan.batch) / seconds : 0;
  if (plan.batch < goal.batch_norm_floor) {
    plan.warnings.push_back("a micro-batch of " + std::to_string(plan.batch) + " is below " +
                            std::to_string(goal.batch_norm_floor) +
                            ": batch-normalisation statistics will be poor");
  }
  plan.why = sentence(plan, goal, limited_by_memory);
  return plan;
}

}  // namespace brim::autotune
