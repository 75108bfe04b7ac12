#pragma once

#include <span>
#include <vector>

#include "adaptive_source.h"
#include "brim/autotune/loader_balance.h"
#include "brim/train/observer.h"
#include "memory_pressure.h"

namespace brim::cli {

/// Lets a running training's loader have more or fewer workers and batches ahead, as its waiting
/// says. Where memory has been short the loader is the pressure ladder's alone. Every change is
/// told as a Note.
class LoaderAdjustment final : public Observer {
 public:
  LoaderAdjustment(AdaptiveSource& source, const MemoryPressure& pressure,
                   std::span<Observer* const> told);
  void on_step(const StepEvent& event) override;

 private:
  AdaptiveSource& source_;
  const MemoryPressure& pressure_;
  std::vector<Observer*> told_;
  autotune::LoaderBalance balance_;
};

}  // namespace brim::cli
