#include "brim/dataloader/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "statistics_recorder.h"

namespace brim {
namespace detail {

const char* stage_name(Stage stage) {
  static constexpr const char* kNames[] = {"read", "cache", "decode", "augment"};
  return kNames[static_cast<std::size_t>(stage)];
}

double StageCounts::percentile_us(double share) const {
  const auto target = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(items)));
  std::int64_t seen = 0;
  for (std::size_t b = 0; b < kBuckets; ++b) {
    seen += buckets[b];
    if (seen < target || seen == 0) continue;
    const double low =
        std::ldexp(1.0 + static_cast<double>(b % 8) / 8, static_cast<int>(b / 8) + 3);
    return low * (1 + 0.5 / (8 + static_cast<double>(b % 8))) / 1000;  // middle of the bucket
  }
  return 0;
}

void WorkerRecorder::add_to(std::array<StageCounts, kStages>& totals,
                            LoaderStatistics& sums) const {
  for (std::size_t s = 0; s < kStages; ++s) {
    totals[s].items += counters_[s].items.load(std::memory_order_relaxed);
    totals[s].busy_ns += counters_[s].busy_ns.load(std::memory_order_relaxed);
    for (std::size_t b = 0; b < kBuckets; ++b) {
      totals[s].buckets[b] += counters_[s].buckets[b].load(std::memory_order_relaxed);
    }
  }
  sums.decoded_bytes += decoded_bytes_.load(std::memory_order_relaxed);
  sums.cache_hits += hits_.load(std::memory_order_relaxed);
  sums.cache_misses += misses_.load(std::memory_order_relaxed);
  sums.cache_kept += kept_.load(std::memory_order_relaxed);
  sums.cache_kept_bytes += kept_bytes_.load(std::memory_order_relaxed);
}

}  // namespace detail

namespace {

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%", 100 * share);
  return text;
}

/// "5.1% decode, 2.2% read": `wait` split in proportion to what the workers were busy with.
std::string split_by_stage(const LoaderStatistics& statistics, double wait) {
  std::vector<StageStatistics> stages = statistics.stages;
  std::sort(stages.begin(), stages.end(),
            [](const auto& a, const auto& b) { return a.busy_ns > b.busy_ns; });
  double busy = 0;
  for (const StageStatistics& stage : stages) busy += static_cast<double>(stage.busy_ns);
  std::string text;
  for (const StageStatistics& stage : stages) {
    const double share = busy > 0 ? wait * static_cast<double>(stage.busy_ns) / busy : 0;
    if (share < 0.0005) continue;
    text += (text.empty() ? "" : ", ") + percent(share) + " " + stage.name;
  }
  return text;
}

double busy_share(const LoaderStatistics& statistics, const std::string& stage) {
  double all = 0, one = 0;
  for (const StageStatistics& s : statistics.stages) {
    all += static_cast<double>(s.busy_ns);
    if (s.name == stage) one += static_cast<double>(s.busy_ns);
  }
  return all > 0 ? one / all : 0;
}

std::string remedy(const LoaderStatistics& statistics, double wait) {
  const double workers = std::max(statistics.workers, 1);
  double busy = 0;
  for (const StageStatistics& stage : statistics.stages) busy += static_cast<double>(stage.busy_ns);
  const double elapsed = static_cast<double>(statistics.elapsed_ns);
  if (busy_share(statistics, "read") > 0.5) return "a cache or faster storage would remove it";
  if (busy < 0.5 * workers * elapsed) {
    return "the workers did not get the processor: fewer other threads would help";
  }
  if (wait > 0.9) {
    const double rate = static_cast<double>(statistics.samples) / (elapsed * 1e-9) / workers;
    char text[96];
    std::snprintf(text, sizeof text,
                  "the loader sets the pace, each further core adds %.0f images/s", rate);
    return text;
  }
  const double needed = busy / (elapsed * (1 - wait));
  const auto more = static_cast<int>(std::max(1.0, std::ceil(needed - workers)));
  return std::to_string(more) + (more == 1 ? " more core" : " more cores") + " would remove it";
}

}  // namespace

void add_statistics(const LoaderStatistics& more, LoaderStatistics& sum, int sign) {
  sum.samples += sign * more.samples;
  sum.batches += sign * more.batches;
  sum.elapsed_ns += sign * more.elapsed_ns;
  sum.consumer_wait_ns += sign * more.consumer_wait_ns;
  sum.worker_idle_ns += sign * more.worker_idle_ns;
  sum.decoded_bytes += sign * more.decoded_bytes;
  sum.cache_hits += sign * more.cache_hits;
  sum.cache_misses += sign * more.cache_misses;
  sum.cache_kept += sign * more.cache_kept;
  sum.cache_kept_bytes += sign * more.cache_kept_bytes;
  sum.bad_samples += sign * more.bad_samples;
  sum.mean_ready_batches = more.mean_ready_batches;
  sum.workers = more.workers;
  sum.stages.resize(std::max(sum.stages.size(), more.stages.size()));
  for (std::size_t i = 0; i < more.stages.size(); ++i) {
    StageStatistics stage = more.stages[i];
    stage.items = sum.stages[i].items + sign * stage.items;
    stage.busy_ns = sum.stages[i].busy_ns + sign * stage.busy_ns;
    sum.stages[i] = std::move(stage);
  }
}

std::string bottleneck(const LoaderStatistics& statistics) {
  if (statistics.batches == 0 || statistics.elapsed_ns <= 0) return "no batch was delivered yet";
  const double elapsed = static_cast<double>(statistics.elapsed_ns);
  const double wait = std::min(1.0, static_cast<double>(statistics.consumer_wait_ns) / elapsed);
  if (wait >= 0.01) {
    return "device waited " + percent(wait) + ": " + split_by_stage(statistics, wait) + "; " +
           remedy(statistics, wait);
  }
  const double capacity = std::max(statistics.workers, 1) * elapsed;
  const double used = 1 - std::min(1.0, static_cast<double>(statistics.worker_idle_ns) / capacity);
  return "device waited " + percent(wait) + ": the trainer is the limit, the loader was busy " +
         percent(used) + " of its time";
}

}  // namespace brim
