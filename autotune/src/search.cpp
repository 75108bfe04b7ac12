#include "brim/autotune/search.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "brim/autotune/memory_model.h"
#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"

namespace brim::autotune {
namespace {

std::vector<Measurement> fitting(const std::vector<Measurement>& tried) {
  std::vector<Measurement> all;
  for (const Measurement& m : tried)
    if (m.outcome == Outcome::Fits) all.push_back(m);
  return all;
}

/// What the measurements so far say of memory and time.
MemoryModel refit(BatchPlan& plan) {
  const std::vector<Measurement> measured = fitting(plan.tried);
  MemoryModel model(measured);
  std::vector<double> batches, seconds;
  for (const Measurement& m : measured) {
    batches.push_back(static_cast<double>(m.batch));
    seconds.push_back(m.seconds_per_step);
  }
  plan.memory = model.line();
  plan.memory.relative_error = model.relative_error();
  plan.step_seconds = fit_affine(batches, seconds);
  if (plan.step_seconds.constant < 0)  // noise: a step takes nothing without images at the least
    plan.step_seconds = {0, seconds.back() / batches.back(), plan.step_seconds.relative_error};
  return model;
}

/// What the process that will train holds beyond the one that was probed.
std::int64_t bytes_beyond_probe(const BatchPlan& plan, const Goal& goal) {
  const std::int64_t idle = plan.tried.front().idle_bytes;
  return idle > 0 && goal.own_bytes > 0 ? std::max<std::int64_t>(0, goal.own_bytes - idle) : 0;
}

/// Resident peak of the training at `batch`, loader included.
double peak_at(const BatchPlan& plan, const MemoryModel& model, const Goal& goal,
               std::int64_t batch) {
  return model.at(batch) +
         static_cast<double>(goal.loader_bytes(batch) + bytes_beyond_probe(plan, goal));
}

/// Largest batch whose predicted peak is allowed, by halving: peaks grow with the batch.
std::int64_t largest_that_fits(const std::function<double(std::int64_t)>& peak,
                               double allowed_bytes, const SearchSpace& space) {
  std::int64_t fits = 0, too_large = space.max_batch + 1;
  while (too_large - fits > 1) {
    const std::int64_t middle = fits + (too_large - fits) / 2;
    (peak(middle) <= allowed_bytes ? fits : too_large) = middle;
  }
  return fits;
}

/// Most that was resident beside the pool of tensors, with what the probe's process lacks.
std::int64_t program_bytes(const BatchPlan& plan, const Goal& goal) {
  std::int64_t most = 0;
  for (const Measurement& m : fitting(plan.tried))
    if (m.reserved_peak_bytes > 0)
      most = std::max(most, m.resident_peak_bytes - m.reserved_peak_bytes);
  return most > 0 ? most + bytes_beyond_probe(plan, goal) : 0;
}

double seconds_per_image(const AffineFit& step, std::int64_t batch) {
  return step.at(static_cast<double>(batch)) / static_cast<double>(batch);
}

/// The smallest divisor of the nominal batch (so that accumulation adds up evenly) that is within
/// the tolerance of the fastest one and not below the floor. The optimiser does not matter here: it
/// runs once per nominal batch.
std::int64_t smallest_near_best(const AffineFit& step, const Goal& goal) {
  double best = seconds_per_image(step, goal.nominal_batch);
  for (std::int64_t batch = 1; batch < goal.nominal_batch; ++batch)
    if (goal.nominal_batch % batch == 0) best = std::min(best, seconds_per_image(step, batch));
  for (std::int64_t batch = 1; batch < goal.nominal_batch; ++batch) {
    if (goal.nominal_batch % batch != 0 || batch < goal.batch_norm_floor) continue;
    if (seconds_per_image(step, batch) * (1 - goal.throughput_tolerance) <= best) return batch;
  }
  return goal.nominal_batch;
}

/// The largest micro-batch up to `batch` whose multiples come within 5% of the nominal batch.
std::int64_t largest_even_batch(std::int64_t batch, std::int64_t nominal) {
  for (std::int64_t candidate = std::min(batch, nominal); candidate > 1; --candidate) {
    const std::int64_t parts = (nominal + candidate / 2) / candidate;
    if (20 * std::abs(parts * candidate - nominal) <= nominal) return candidate;
  }
  return 1;
}

/// Fastest of those measured: it does not depend on the batch.
double optimizer_seconds(const std::vector<Measurement>& tried) {
  double fastest = 0;
  for (const Measurement& m : fitting(tried))
    if (m.optimizer_seconds > 0)
      fastest = fastest > 0 ? std::min(fastest, m.optimizer_seconds) : m.optimizer_seconds;
  return fastest;
}

/// True where the model may be believed without a probe: within the range that the campaign of
/// docs/autotune_campaign.md covers, and far below what is allowed.
bool needs_no_probe(const BatchPlan& plan, double predicted_bytes, double allowed_bytes) {
  constexpr std::int64_t kRange = 4;
  constexpr double kFar = 0.85;
  std::int64_t largest = 0;
  for (const Measurement& m : plan.tried)
    if (m.outcome == Outcome::Fits) largest = std::max(largest, m.batch);
  if (plan.batch <= largest) return true;
  return fitting(plan.tried).size() > 1 && plan.batch <= kRange * largest &&
         predicted_bytes <= kFar * allowed_bytes;
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
                  format_bytes(goal.loader_bytes(1)) +
                  " of it for the loader) is too small for one image" + account,
              {.key = "memory.limit"},
              "lower train.img, choose a smaller model, or use train.precision=bf16");
}

}  // namespace

BatchPlan choose_batch(const SearchSpace& space, const Goal& wished, const Probe& ask) {
  constexpr std::size_t kMostProbes = 3;
  BatchPlan plan;
  Goal goal = wished;
  const auto probe = [&](std::int64_t batch) {
    Measurement found = ask(batch);
    if (wished.byte_budget == 0 && found.byte_budget > 0) goal.byte_budget = found.byte_budget;
    return found;
  };

  const auto is_too_large = [&](const Measurement& m) {
    return m.outcome != Outcome::Fits ||
           static_cast<double>(m.resident_peak_bytes + goal.loader_bytes(m.batch) +
                               bytes_beyond_probe(plan, goal)) > goal.allowed_bytes();
  };

  std::vector<std::int64_t> first = space.first_probes;
  if (goal.fixed_batch > 0) first = {goal.fixed_batch};
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::int64_t batch = std::clamp(first[i], space.min_batch, space.max_batch);
    if (i > 0 && batch == first[i - 1]) continue;
    plan.tried.push_back(probe(batch));
    if (is_too_large(plan.tried.back())) break;
  }
  if (is_too_large(plan.tried.front())) {
    // What smaller batches take is known from two of them alone.
    const Measurement large = plan.tried.front();
    if (goal.fixed_batch > 0 || large.batch == space.min_batch) throw_too_small(plan, goal);
    plan.tried.push_back(probe(space.min_batch));
    if (plan.tried.back().outcome != Outcome::Fits) throw_too_small(plan, goal);
    if (large.outcome != Outcome::Fits && large.batch > space.min_batch + 1)
      plan.tried.push_back(probe(space.min_batch + 1));
  }
  MemoryModel model = refit(plan);
  plan.byte_budget = goal.byte_budget;
  const double allowed = goal.allowed_bytes();
  const auto peak = [&](std::int64_t batch) { return peak_at(plan, model, goal, batch); };

  bool limited_by_memory = false;
  for (;;) {
    plan.largest_batch = largest_that_fits(peak, allowed, space);
    for (const Measurement& m : plan.tried) {
      if (m.outcome != Outcome::Fits)
        plan.largest_batch = std::min(plan.largest_batch, m.batch - 1);
    }
    if (plan.largest_batch < space.min_batch) throw_too_small(plan, goal);
    std::int64_t wanted = goal.fixed_batch;
    if (wanted == 0) wanted = smallest_near_best(plan.step_seconds, goal);
    limited_by_memory = wanted > plan.largest_batch;
    plan.batch = limited_by_memory && goal.fixed_batch == 0
                     ? largest_even_batch(plan.largest_batch, goal.nominal_batch)
                     : wanted;
    if (limited_by_memory && goal.fixed_batch > 0) throw_too_small(plan, goal);

    const auto measured = std::find_if(plan.tried.begin(), plan.tried.end(),
                                       [&](const Measurement& m) { return m.batch == plan.batch; });
    const bool asks_more = limited_by_memory && plan.tried.size() < kMostProbes;
    if (measured != plan.tried.end() && asks_more && plan.batch > space.min_batch &&
        fitting(plan.tried).size() == 1) {
      // One measurement alone foretells too much for larger batches: a second one tells what of it
      // does not grow.
      plan.tried.push_back(probe(space.min_batch));
      if (plan.tried.back().outcome == Outcome::Fits) model = refit(plan);
      continue;
    }
    if (measured != plan.tried.end()) {
      plan.measured_peak_bytes = measured->resident_peak_bytes;
      break;
    }
    if (needs_no_probe(plan, peak(plan.batch), allowed) || plan.tried.size() >= kMostProbes) break;
    plan.tried.push_back(probe(plan.batch));
    if (plan.tried.back().outcome == Outcome::Fits) model = refit(plan);
  }

  plan.accumulate = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(std::llround(static_cast<double>(goal.nominal_batch) /
                                                static_cast<double>(plan.batch))));
  plan.predicted_peak_bytes = static_cast<std::int64_t>(peak(plan.batch));
  plan.program_bytes = program_bytes(plan, goal);
  const double seconds = plan.step_seconds.at(static_cast<double>(plan.batch)) +
                         optimizer_seconds(plan.tried) / static_cast<double>(plan.accumulate);
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
