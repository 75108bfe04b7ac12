#pragma once

#include <exception>

#include "brim/cache/memory_budget.h"
#include "brim/dataloader/dataset.h"
#include "config.h"

namespace brim::cli {

/// Whether `error` says, in any of its shapes, that memory does not suffice.
bool is_about_memory(const std::exception& error);

/// A training that memory does not suffice for.
struct RefusedTraining {
  const Config& config;  ///< with a plain number as its batch
  const Dataset& data;
  const Dataset* validation;  ///< null: none
  Task task;
  const MemoryBudget& budget;
};
/// Throws Error with what `found` says and the smallest budget that would do: the program as it is,
/// its loaders, and the tensors of one image at a time with recomputed activations where those are
/// left open. What the run had must have been freed: its step is measured with small images.
[[noreturn]] void refuse_memory(const RefusedTraining& refused, const std::exception& found);

}  // namespace brim::cli
