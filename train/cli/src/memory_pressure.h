#pragma once

#include <memory>
#include <span>
#include <string>

#include "adaptive_source.h"
#include "brim/autotune/pressure.h"
#include "brim/cache/memory_budget.h"
#include "brim/train/observer.h"
#include "brim/train/trainer.h"

namespace brim::cli {

/// Watches the memory of a training between its steps and climbs the ladder while it is short:
/// trim, prefetch, workers, cache, smaller micro-batches, recomputed activations; when nothing is
/// left at the last grade, the run ends with a checkpoint. Every rung is told to `told` as
/// a Note.
class MemoryPressure final : public Observer {
 public:
  struct Parts {
    Trainer& trainer;
    AdaptiveSource& source;
    std::shared_ptr<MemoryBudget> budget;
    double planned_share = 0;  ///< of the budget that the tuned batch is meant to take; 0: unknown
    std::span<Observer* const> told;
    int ranks = 1;            ///< processes that share the images of a step
    bool trains_here = true;  ///< false: steps take a GPU's memory, not the watched one
  };
  explicit MemoryPressure(const Parts& parts);

  void on_step(const StepEvent& event) override;
  /// True: the run is to end because of memory.
  const std::atomic<bool>& stop() const { return stop_; }
  /// What was done, counted: "trim 3, cache 1"; empty when nothing was.
  std::string summary() const;
  bool acted() const { return !ladder_->counts().empty(); }
  double highest_share() const { return ladder_->highest_share(); }

 private:
  std::vector<autotune::Rung> rungs();
  std::string reduce_prefetch();
  std::string reduce_workers();
  std::string reduce_cache();
  std::string reduce_parts();

  Parts parts_;
  std::vector<Observer*> told_;
  int workers_ = 0, prefetch_ = 0;  // as the run began
  StepEvent last_{};
  std::atomic<bool> stop_{false};
  std::unique_ptr<autotune::PressureLadder> ladder_;
};

}  // namespace brim::cli
