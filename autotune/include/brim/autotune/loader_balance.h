#pragma once

#include <cstdint>
#include <optional>

namespace brim::autotune {

struct LoaderSetting {
  int workers = 1, prefetch = 2;
  bool operator==(const LoaderSetting&) const = default;
};

struct LoaderBalanceOptions {
  int most_workers = 1, most_prefetch = 8;
  int settle_steps = 10;    ///< left out after a change
  int window_steps = 50;    ///< that are judged together
  double wait_high = 0.05;  ///< share of the time waited from which more is tried
  double wait_low = 0.005;  ///< below it for `calm_windows`, less is tried
  int calm_windows = 4;
  double gain = 0.01;        ///< of images/s that more must bring, and that less may cost
  int patience_windows = 8;  ///< before a direction that failed is tried again; doubles
};

/// Adjusts a running loader both ways: one more worker (then deeper prefetch) when the trainer
/// waits, one worker fewer when it never does. Every change is a trial that is taken back unless
/// the images per second bear it out, and a direction that failed rests for longer each time, so it
/// does not swing. Knows numbers only; whoever owns the loader applies what it says. One thread.
///
///   LoaderBalance balance({.workers = 1, .prefetch = 4}, {.most_workers = cores});
///   if (auto now = balance.step(images, step_seconds, wait_seconds)) source.change(*now);
class LoaderBalance {
 public:
  LoaderBalance(LoaderSetting start, const LoaderBalanceOptions& options)
      : options_(options), now_(start) {}

  /// After each training step. The setting to change to, if any.
  std::optional<LoaderSetting> step(std::int64_t images, double step_seconds, double wait_seconds);
  /// The loader was set otherwise by somebody else (memory pressure): taken as it is.
  void set(LoaderSetting setting);
  LoaderSetting setting() const { return now_; }
  std::int64_t changes() const { return changes_; }

 private:
  struct Trial {
    LoaderSetting before;
    double rate = 0;
    bool more = true;
  };
  struct Rest {
    int left = 0, length = 0;
  };
  std::optional<LoaderSetting> judge(double rate);
  std::optional<LoaderSetting> attempt(double rate, double wait_share);
  std::optional<LoaderSetting> change(LoaderSetting setting);
  void clear_window();

  LoaderBalanceOptions options_;
  LoaderSetting now_;
  std::optional<Trial> trial_;
  Rest more_, less_;
  std::int64_t changes_ = 0, images_ = 0;
  int steps_ = 0, settling_ = 0, calm_ = 0;
  double busy_ = 0, wait_ = 0;
};

}  // namespace brim::autotune
