#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "brim/autotune/search.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/dataset.h"
#include "config.h"
#include "loader_cost.h"
#include "program.h"

namespace brim::cli {

/// A tuned batch and where it came from.
struct TunedBatch {
  autotune::BatchPlan plan{};
  autotune::Goal goal{};
  bool recompute = false;   ///< activations are recomputed: else the batch would be too small
  bool bf16 = false;        ///< where the precision is left open: bf16 instead of fp32
  bool remembered = false;  ///< reused from an earlier tuning of the same case
  double seconds = 0;
  CorePlan cores{};  ///< brim tune only; nothing chosen where it was not measured
};

enum class Memory { Reuse, Fresh };

/// Chooses the micro-batch for `config` on `dataset` with probes in child processes, or reuses what
/// was found before for the same model, size, precision, device, versions and budget.
/// `batch` of the config: auto, a share of memory below 1, or a number (then only verified).
/// `meanwhile` is done each time that a child has been started, while it loads its libraries.
TunedBatch tune_batch(Program& program, const Config& config, const Dataset& dataset, Task task,
                      const std::shared_ptr<MemoryBudget>& budget, Memory memory,
                      const std::function<void()>& meanwhile = {});

/// Images per step that the config asks for without tuning; 0: it has to be tuned.
std::int64_t plain_batch(const Config& config);

/// The result as JSON (tune.json) and as the YAML fragment that fixes it.
std::string tuned_json(const TunedBatch& tuned);
std::string tuned_yaml(const TunedBatch& tuned);

/// Hidden subcommand that tune_batch starts: measures one batch and prints it as JSON.
void add_probe_command(CLI::App& app, Program& program);

}  // namespace brim::cli
