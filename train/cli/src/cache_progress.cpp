#include "cache_progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "brim/cache/memory_budget.h"
#include "console.h"

namespace brim::cli {
namespace {

/// The rate is that of the last ten to twenty seconds.
constexpr std::chrono::seconds kWindow{10};
/// Fuller than this, what is left is the room that values of other sizes did not fit into.
constexpr double kFull = 0.98;

}  // namespace

std::int64_t CacheProgress::wanted(const StoreStats& stats) const {
  if (stats.byte_limit <= 0 || stats.entries == 0) return images_;
  const double each = static_cast<double>(stats.bytes) / static_cast<double>(stats.entries);
  if (each <= 0) return images_;
  return std::min(images_, static_cast<std::int64_t>(static_cast<double>(stats.byte_limit) / each));
}

double CacheProgress::rate(const StoreStats& stats, Clock::time_point now) {
  const Look look{now, stats.entries};
  if (first_.at == Clock::time_point{}) first_ = last_ = look;
  if (now - last_.at >= kWindow) {
    first_ = last_;
    last_ = look;
  }
  const double seconds = std::chrono::duration<double>(now - first_.at).count();
  return seconds > 0 ? static_cast<double>(stats.entries - first_.entries) / seconds : 0;
}

std::string CacheProgress::line(const LoaderStatistics& epoch, Clock::time_point now) {
  if (store_ == nullptr) return "";
  const StoreStats stats = store_->stats();
  const double per_second = rate(stats, now);
  std::string text =
      fmt::format("cache {:.0f}% hits, {}", 100 * epoch.hit_rate(), format_bytes(stats.bytes));
  const std::int64_t left = wanted(stats) - stats.entries;
  const bool full = static_cast<double>(stats.entries) >=
                    kFull * static_cast<double>(std::max<std::int64_t>(1, wanted(stats)));
  if (full || per_second <= 0) return text;
  return text + fmt::format(", +{:.0f} images/s, full in {}", per_second,
                            format_duration(static_cast<double>(left) / per_second));
}

std::string CacheProgress::epoch(const LoaderStatistics& epoch) const {
  if (store_ == nullptr || epoch.cache_hits + epoch.cache_misses == 0) return "";
  const StoreStats stats = store_->stats();
  return fmt::format(
      "cache: {:.1f}% of the images came from it; it took {} in and holds {:.1f}% of them in {}",
      100 * epoch.hit_rate(), epoch.cache_kept,
      100 * static_cast<double>(std::min(stats.entries, images_)) /
          static_cast<double>(std::max<std::int64_t>(1, images_)),
      format_bytes(stats.bytes));
}

}  // namespace brim::cli
