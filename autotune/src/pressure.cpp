#include "brim/autotune/pressure.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace brim::autotune {
namespace {

std::string sentence(double share, const std::string& name, const std::string& what) {
  char text[64];
  std::snprintf(text, sizeof text, "memory at %.0f%% of the budget: ", 100 * share);
  return text + name + ": " + what;
}

}  // namespace

std::vector<double> rung_shares(double planned_share) {
  constexpr double kStart = 0.85, kMargin = 0.02;
  const double start = std::min(std::max(kStart, planned_share + kMargin), 0.99);
  const double step = (1 - start) / 3;
  return {start, start + step, start + 2 * step};
}

PressureLadder::PressureLadder(Bytes used, Bytes limit, std::vector<Rung> rungs,
                               const PressureOptions& options)
    : used_(std::move(used)),
      limit_(std::move(limit)),
      rungs_(std::move(rungs)),
      options_(options) {}

std::optional<PressureEvent> PressureLadder::check() {
  const std::int64_t limit = limit_();
  if (limit <= 0 || rungs_.empty()) return std::nullopt;
  const double share = static_cast<double>(used_()) / static_cast<double>(limit);
  highest_share_ = std::max(highest_share_, share);
  if (waiting_ > 0) {
    --waiting_;
    return std::nullopt;
  }
  if (share >= rungs_.front().at) {
    calm_ = 0;
    return climb(share);
  }
  if (share < options_.calm_below && ++calm_ >= options_.calm_checks) {
    calm_ = 0;
    next_ = 0;
    return descend(share);
  }
  return std::nullopt;
}

/// The next rung at or below `share` that still has something to do; those that have nothing are
/// passed over. After the highest the search begins anew from below: caches fill again.
std::optional<PressureEvent> PressureLadder::climb(double share) {
  for (const bool last_resort : {false, true}) {
    for (std::size_t tried = 0; tried < rungs_.size(); ++tried) {
      const std::size_t index = (next_ + tried) % rungs_.size();
      Rung& rung = rungs_[index];
      if (share < rung.at || rung.last_resort != last_resort) continue;
      const std::string what = rung.climb();
      if (what.empty()) continue;
      ++counts_[rung.name];
      if (rung.descend) climbed_.push_back(index);
      next_ = index + 1;
      waiting_ = options_.settle_checks;
      return PressureEvent{rung.name, false, share, sentence(share, rung.name, what)};
    }
  }
  return std::nullopt;
}

std::optional<PressureEvent> PressureLadder::descend(double share) {
  while (!climbed_.empty()) {
    Rung& rung = rungs_[climbed_.back()];
    climbed_.pop_back();
    const std::string what = rung.descend();
    if (what.empty()) continue;
    waiting_ = options_.settle_checks;
    return PressureEvent{rung.name, true, share, sentence(share, rung.name, what)};
  }
  return std::nullopt;
}

}  // namespace brim::autotune
