#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "brim/train/observer.h"
#include "console.h"

namespace brim::cli {

/// Shows a training: a progress line within each epoch (rate, time left, data wait, memory, losses)
/// and one line per epoch, followed by what limited it.
class TrainProgress final : public Observer {
 public:
  /// Sentences about an epoch of which `seconds` were trained or waited for data, one a line.
  using Verdict = std::function<std::vector<std::string>(double seconds, double waited)>;
  /// `beside`: what else the progress line says.
  TrainProgress(Console& console, Verdict verdict, std::function<std::string()> beside = {});

  void on_start(const RunInfo& info) override;
  void on_step(const StepEvent& event) override;
  void on_trained() override;
  void on_epoch(const EpochEvent& event) override;
  void on_note(const Note& note) override;
  void on_end(const EndEvent& event) override;

 private:
  Console& console_;
  Verdict verdict_;
  std::function<std::string()> beside_;
  std::vector<std::string> sentences_{};  ///< about the epoch that ended
  RunInfo info_{};
  int epoch_ = -1;
  std::int64_t images_ = 0, batches_ = 0;
  double busy_seconds_ = 0, wait_seconds_ = 0;
  bool heading_shown_ = false;
};

}  // namespace brim::cli
