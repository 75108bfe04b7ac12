#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace brim::detail {

/// Decides when filling a cache costs nothing that matters: it may take the time in which workers
/// had nothing to do, and a small share of the time they worked, which grows from epoch to epoch
/// because what is filled late pays late. Thread-safe, never locked.
class FillPacer {
 public:
  /// `share` of the work that filling may take; from 1 on everything is filled at once.
  /// `background_ns`: what the store's own threads have worked before.
  explicit FillPacer(double share, std::int64_t background_ns = 0)
      : share_(share), background_ns_(background_ns) {}

  /// Another epoch begins; the first is the one that began with the pacer.
  void next_epoch() { share_.store(share_.load() * kGrowth, std::memory_order_relaxed); }

  bool may_fill() const {
    return share_.load(std::memory_order_relaxed) >= 1 ||
           credit_ns_.load(std::memory_order_relaxed) > 0;
  }
  /// A value was made in `ns`; the mean of those that were not made to be kept is remembered,
  /// because making a value to be kept may take longer (all of an image instead of a part).
  void made(std::int64_t ns, bool to_keep) {
    if (!to_keep) {
      const std::int64_t mean = plain_ns_.load(std::memory_order_relaxed);
      plain_ns_.store(mean == 0 ? ns : mean + (ns - mean) / 16, std::memory_order_relaxed);
    }
    const double share = std::min(share_.load(std::memory_order_relaxed), 1.0);
    earn(static_cast<std::int64_t>(share * static_cast<double>(ns)));
  }
  /// Workers waited, `ns` summed over them.
  void waited(std::int64_t ns) { earn(ns); }
  /// Keeping a value took `ns` beyond making it in `made_ns`.
  void kept(std::int64_t ns, std::int64_t made_ns, bool made_differently) {
    const std::int64_t plain = plain_ns_.load(std::memory_order_relaxed);
    if (made_differently && plain > 0) ns += std::max<std::int64_t>(0, made_ns - plain);
    credit_ns_.fetch_sub(ns, std::memory_order_relaxed);
  }
  /// The store's own threads have worked `background_ns` in all, at the workers' cost.
  void kept_behind(std::int64_t background_ns) {
    const std::int64_t before = background_ns_.exchange(background_ns, std::memory_order_relaxed);
    if (before != background_ns)
      credit_ns_.fetch_sub(background_ns - before, std::memory_order_relaxed);
  }

 private:
  /// Credit is hardly saved up, a few large images' worth: what was idle then may be busy now.
  static constexpr std::int64_t kMostCreditNs = 20'000'000;
  static constexpr double kGrowth = 8;

  void earn(std::int64_t ns) {
    const std::int64_t now = credit_ns_.fetch_add(ns, std::memory_order_relaxed) + ns;
    if (now > kMostCreditNs) credit_ns_.store(kMostCreditNs, std::memory_order_relaxed);
  }

  std::atomic<double> share_;
  std::atomic<std::int64_t> credit_ns_{0};
  std::atomic<std::int64_t> plain_ns_{0};
  std::atomic<std::int64_t> background_ns_;
};

}  // namespace brim::detail
