#include "brim/autotune/loader_balance.h"

#include <algorithm>

namespace brim::autotune {

void LoaderBalance::clear_window() {
  images_ = steps_ = 0;
  busy_ = wait_ = 0;
}

void LoaderBalance::set(LoaderSetting setting) {
  if (setting == now_) return;
  now_ = setting;
  trial_.reset();
  settling_ = options_.settle_steps;
  clear_window();
}

std::optional<LoaderSetting> LoaderBalance::change(LoaderSetting setting) {
  now_ = setting;
  ++changes_;
  settling_ = options_.settle_steps;
  calm_ = 0;
  return setting;
}

/// The trial's window is over: it stays or goes.
std::optional<LoaderSetting> LoaderBalance::judge(double rate) {
  const Trial trial = *trial_;
  trial_.reset();
  const double wanted = trial.rate * (trial.more ? 1 + options_.gain : 1 - options_.gain);
  Rest& rest = trial.more ? more_ : less_;
  if (rate >= wanted) {
    rest.length = 0;
    return std::nullopt;
  }
  rest.length = std::max(options_.patience_windows, 2 * rest.length);
  rest.left = rest.length;
  return change(trial.before);
}

std::optional<LoaderSetting> LoaderBalance::attempt(double rate, double wait_share) {
  more_.left = std::max(0, more_.left - 1);
  less_.left = std::max(0, less_.left - 1);
  calm_ = wait_share < options_.wait_low ? calm_ + 1 : 0;
  LoaderSetting next = now_;
  const bool more = wait_share > options_.wait_high;
  if (more && more_.left == 0) {
    if (next.workers < options_.most_workers)
      ++next.workers;
    else
      next.prefetch = std::min(2 * next.prefetch, std::max(options_.most_prefetch, now_.prefetch));
  } else if (calm_ >= options_.calm_windows && less_.left == 0 && next.workers > 1) {
    --next.workers;
  }
  if (next == now_) return std::nullopt;
  trial_ = Trial{now_, rate, more};
  return change(next);
}

std::optional<LoaderSetting> LoaderBalance::step(std::int64_t images, double step_seconds,
                                                 double wait_seconds) {
  if (settling_ > 0) {
    --settling_;
    return std::nullopt;
  }
  images_ += images;
  busy_ += step_seconds;
  wait_ += wait_seconds;
  if (++steps_ < options_.window_steps) return std::nullopt;
  const double seconds = busy_ + wait_;
  const double rate = seconds > 0 ? static_cast<double>(images_) / seconds : 0;
  const double share = seconds > 0 ? wait_ / seconds : 0;
  clear_window();
  return trial_ ? judge(rate) : attempt(rate, share);
}

}  // namespace brim::autotune
