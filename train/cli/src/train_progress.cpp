#include "train_progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "brim/cache/memory_budget.h"
#include "brim/cache/process_memory.h"

namespace brim::cli {
namespace {

/// Losses on the validation set are in results.csv and results.png; a line has no room for them.
bool is_loss(const std::string& name) {
  return name.starts_with("val_");
}

}  // namespace

TrainProgress::TrainProgress(Console& console, Verdict verdict, std::function<std::string()> beside)
    : console_(console), verdict_(std::move(verdict)), beside_(std::move(beside)) {}

void TrainProgress::on_start(const RunInfo& info) {
  info_ = info;
  console_.print(fmt::format(
      "{} on {} in {}: {} epochs of {} batches{}", info.network, info.device, info.precision,
      info.epochs, info.batches_per_epoch,
      info.first_epoch > 0 || info.first_batch > 0
          ? fmt::format(", from epoch {} batch {}", info.first_epoch + 1, info.first_batch + 1)
          : ""));
}

void TrainProgress::on_step(const StepEvent& event) {
  if (event.epoch != epoch_) {
    epoch_ = event.epoch;
    images_ = batches_ = 0;
    busy_seconds_ = wait_seconds_ = 0;
  }
  images_ += event.images;
  ++batches_;
  busy_seconds_ += event.step_seconds;
  wait_seconds_ += event.wait_seconds;
  if (!console_.progress_due()) return;
  const double seconds = std::max(busy_seconds_ + wait_seconds_, 1e-9);
  std::string losses;
  for (std::size_t i = 0; i < event.mean_components.size(); ++i) {
    losses += fmt::format("  {} {:.4f}", info_.component_names.at(i), event.mean_components[i]);
  }
  const double left = seconds / static_cast<double>(batches_) *
                      static_cast<double>(event.batches - event.batch - 1);
  std::string beside = beside_ ? beside_() : "";
  if (!beside.empty()) beside = "  " + beside;
  console_.progress(
      fmt::format("epoch {}/{} {:3.0f}%  {:.1f} images/s  left {}  data wait {:.1f}%  {}{}{}",
                  event.epoch + 1, info_.epochs,
                  100.0 * static_cast<double>(event.batch + 1) / static_cast<double>(event.batches),
                  static_cast<double>(images_) / seconds, format_duration(left),
                  100 * wait_seconds_ / seconds, format_bytes(resident_bytes()), beside, losses));
}

void TrainProgress::on_trained() {
  if (verdict_) sentences_ = verdict_(busy_seconds_ + wait_seconds_, wait_seconds_);
}

void TrainProgress::on_epoch(const EpochEvent& event) {
  const double seconds = std::max(event.train_seconds, 1e-9);
  if (!heading_shown_) {
    std::string heading = fmt::format("{:>7}", "epoch");
    for (const std::string& name : info_.component_names) heading += fmt::format("  {:>8}", name);
    for (const auto& [name, value] : event.evaluation.metrics)
      if (!is_loss(name)) heading += fmt::format("  {:>9}", name);
    console_.print(heading + fmt::format("  {:>8}  {:>9}  {:>8}", "images/s", "data wait", "time"));
    heading_shown_ = true;
  }
  std::string row = fmt::format("{:>7}", fmt::format("{}/{}", event.epoch + 1, info_.epochs));
  for (const double value : event.mean_components) row += fmt::format("  {:8.4f}", value);
  for (const auto& [name, value] : event.evaluation.metrics) {
    if (is_loss(name)) continue;
    row += fmt::format("  {:{}.4f}", value, std::max<std::size_t>(9, name.size()));
  }
  row += fmt::format("  {:8.1f}  {:8.1f}%  {:>8}{}", static_cast<double>(event.images) / seconds,
                     100 * event.wait_seconds / seconds,
                     format_duration(event.train_seconds + event.evaluation_seconds),
                     event.best ? "  best" : "");
  console_.progress(row, true);
  for (const std::string& sentence : sentences_)
    if (!sentence.empty()) console_.print("        " + sentence);
}

void TrainProgress::on_note(const Note& note) {
  console_.warn(note.message);
}

void TrainProgress::on_end(const EndEvent& event) {
  std::string text;
  switch (event.reason) {
    case EndReason::Finished:
      text = "finished";
      break;
    case EndReason::MaxSteps:
      text = "stopped at the largest number of steps";
      break;
    case EndReason::Stopped:
      text = "stopped as asked";
      break;
    case EndReason::EarlyStop:
      text = "stopped early: no improvement";
      break;
  }
  console_.print(
      fmt::format("{} after {} steps in {}{}", text, event.step, format_duration(event.seconds),
                  event.best_epoch >= 0 ? fmt::format("; best fitness {:.4f} in epoch {}",
                                                      event.best_fitness, event.best_epoch + 1)
                                        : ""));
  if (event.reason == EndReason::Stopped) console_.print("--resume goes on from here");
}

}  // namespace brim::cli
