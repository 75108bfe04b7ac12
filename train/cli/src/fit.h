#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "brim/cache/memory_budget.h"
#include "brim/dataloader/dataset.h"
#include "config.h"
#include "program.h"
#include "ranks.h"
#include "run_folder.h"

namespace brim::cli {

/// Peaks that a tuned plan predicts, and what of the host's is the program; 0: not known.
struct PlannedBytes {
  std::int64_t host = 0, device = 0, program = 0;
};

/// All that `brim train` has settled before the first step.
struct Run {
  Config config, wished;  ///< `wished` as the user has it, before a machine's ranks took shares
  std::string folder, checkpoint;
  RunFolder* own_folder;  ///< rank 0's
  std::shared_ptr<const Dataset> data, validation;
  std::uint64_t fingerprint;  ///< of the data of all machines
  Task task;
  std::shared_ptr<MemoryBudget> budget;
  PlannedBytes planned;
  const Ranks& ranks;
};

/// Trains, and leaves in the run's folder and on the console what came of it. Throws Error.
void fit(Program& program, const Run& run, bool as_json);

}  // namespace brim::cli
