// brim train: trains a network on a data set and leaves a run folder.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "brim/cache/memory_monitor.h"
#include "brim/dataloader/torch/device.h"
#include "config_options.h"
#include "experiment.h"
#include "fit.h"
#include "loaded_model.h"
#include "program.h"
#include "ranks.h"
#include "run_folder.h"
#include "smallest_budget.h"
#include "training.h"
#include "tuning.h"

namespace brim::cli {
namespace {

namespace fs = std::filesystem;

/// The configuration of a run that goes on: what its checkpoint holds, then the command line.
Config resumed_config(const ConfigOptions& options, std::string& checkpoint) {
  if (checkpoint.empty()) checkpoint = newest_checkpoint("runs");
  if (fs::is_directory(checkpoint)) checkpoint = (fs::path(checkpoint) / "last.pt").string();
  const Checkpoint saved = load_checkpoint(checkpoint);
  if (saved.optimizer.empty()) {
    throw Error("this checkpoint holds a finished model, not a run to go on with",
                {.file = checkpoint}, "start from its weights with --weights instead");
  }
  Config config;
  read_yaml_text(config, saved.info.config, checkpoint);
  config = options.resolve(config);
  if (options.has("output.dir"))
    throw Error("a run goes on in its own folder", {.key = "output.dir"},
                "leave --output away, or start anew with --weights " + checkpoint);
  if (saved.info.epoch >= config.train.epochs)
    throw Error(fmt::format("the training is finished: {} of {} epochs", saved.info.epoch,
                            config.train.epochs),
                {.file = checkpoint},
                fmt::format("--epochs {} goes on with it", 2 * config.train.epochs));
  const fs::path folder = fs::path(checkpoint).parent_path();
  config.output.dir = folder.empty() ? "." : folder.string();
  return config;
}

/// What a run that goes on had planned, from the tune.json in its folder; nothing where it was not
/// tuned or the batch is another.
PlannedBytes recalled_plan(const std::string& folder, std::int64_t own_batch, bool on_cpu) {
  std::ifstream in(folder + "/tune.json");
  if (!in) return {};
  const auto document = nlohmann::json::parse(in, nullptr, false);
  try {
    const auto& plan = document.at("plan");
    if (plan.at("batch").get<std::int64_t>() != own_batch) return {};
    const auto peak = plan.at("predicted_peak_bytes").get<std::int64_t>();
    if (!on_cpu) return {.device = peak};
    return {.host = peak, .program = plan.at("program_bytes").get<std::int64_t>()};
  } catch (const nlohmann::json::exception&) {
    return {};  // written by another version
  }
}

/// Also sets what else was tuned in `config`. The result is left in `folder` unless that is empty.
std::int64_t decide_batch(Program& program, Config& config, const Dataset& data, Task task,
                          const std::shared_ptr<MemoryBudget>& budget, const std::string& folder,
                          PlannedBytes& planned) {
  if (const std::int64_t batch = plain_batch(config); batch > 0) return batch;
  const TunedBatch tuned = tune_batch(program, config, data, task, budget, Memory::Reuse);
  program.console.print((tuned.remembered ? "remembered " : "tuned ") + tuned.plan.why);
  for (const std::string& warning : tuned.plan.warnings) program.console.warn(warning);
  const std::string text = tuned_json(tuned);
  if (!folder.empty()) write_file_atomically(folder + "/tune.json", text.data(), text.size());
  (device_of(config).is_cpu() ? planned.host : planned.device) = tuned.plan.predicted_peak_bytes;
  if (device_of(config).is_cpu()) planned.program = tuned.plan.program_bytes;
  if (tuned.recompute) config.train.activation_checkpointing = "on";
  if (tuned.bf16) config.train.precision = "bf16";
  return tuned.plan.batch;
}

/// The same for ranks that train together: images of a step of all of them. One rank of each
/// machine tunes, and the smallest result is taken.
std::int64_t agree_on_batch(Program& program, Config& config, const Dataset& data, Task task,
                            const std::shared_ptr<MemoryBudget>& budget, const std::string& folder,
                            PlannedBytes& planned, const Ranks& ranks) {
  const int size = ranks.place().size;
  if (ranks.alone() || plain_batch(config) > 0)
    return decide_batch(program, config, data, task, budget, folder, planned);
  std::int64_t batch = std::numeric_limits<std::int64_t>::max();
  if (ranks.place().local_rank == 0)
    batch = decide_batch(program, config, data, task, budget, ranks.root() ? folder : "", planned);
  const bool recompute = config.train.activation_checkpointing == "on";
  const bool bf16 = config.train.precision == "bf16";
  batch = smallest(*ranks.group(), batch);
  planned.program = -smallest(*ranks.group(), -planned.program);
  if (smallest(*ranks.group(), recompute ? 0 : 1) == 0)
    config.train.activation_checkpointing = "on";
  if (smallest(*ranks.group(), bf16 ? 0 : 1) == 0) config.train.precision = "bf16";
  program.console.print(
      fmt::format("{} ranks of {} images: {} per step", size, batch, batch * size));
  return batch * size;
}

/// Fixes what `auto` means where a machine's ranks share its CPUs and memory.
void take_share(Config& config, const Ranks& ranks) {
  if (config.train.device == "cuda" && !ranks.alone())
    config.train.device = fmt::format("cuda:{}", ranks.place().local_rank);
  if (ranks.place().local_size == 1) return;
  const std::string cpus = std::to_string(ranks.share(available_cpus()));
  if (config.train.threads == "auto") config.train.threads = cpus;
  if (count_or_auto(config.loader.workers, "loader.workers") == kAuto) config.loader.workers = cpus;
  if (config.memory.limit == "auto") {
    constexpr double kPlannedFor = 0.9;
    const auto bytes = static_cast<double>(ranks.share(read_memory_limits().effective));
    config.memory.limit = std::to_string(static_cast<std::int64_t>(kPlannedFor * bytes));
  }
  if (config.loader.cache_share == "never") config.loader.cache_share = "auto";
}

/// Validation data may lack the last classes (numbered ones that it has no label of), no more.
void check_classes(const Config& config, const Dataset& data, const Dataset& validation) {
  std::vector<std::string> names = data.class_names();
  names.resize(std::min(names.size(), validation.class_names().size()));
  const std::string difference =
      class_difference(names, "the training data", validation.class_names(), "the validation data");
  if (!difference.empty())
    throw Error(difference, {.file = config.data.path},
                "both need the same classes in the same order; --noval trains without validation");
}

void train(Program& program, Config config, const std::string& checkpoint, bool as_json) {
  Console& console = program.console;
  Ranks ranks;
  if (!ranks.root()) console.set_quiet(true);
  ranks.meet(config);
  const auto data = open_data(config, Split::Train, ranks.part().part, ranks.part().parts);
  const Task task = task_of(config, *data);
  const auto validation = config.train.val ? open_data(config, Split::Val) : nullptr;
  if (validation) check_classes(config, *data, *validation);
  if (ranks.part().parts == 1) require_labels(*data, config);
  const WholeData whole = ranks.compare_data(*data);
  if (whole.images.size() > 1)
    console.print(fmt::format("{} machines have {} images of their own", whole.images.size(),
                              fmt::join(whole.images, ", ")));
  if (ranks.root()) {
    show_warnings(*data, console);
    if (validation) show_warnings(*validation, console);
    if (validation) warn_of_no_labels(*validation, console);
  }
  if (ranks.root() && checkpoint.empty()) require_unused(config.output);
  std::optional<RunFolder> own_folder;
  if (ranks.root()) own_folder.emplace(config.output, "runs/train/exp");
  const std::string folder =
      text_of_root(*ranks.group(), own_folder ? own_folder->path() : std::string());
  if (own_folder && checkpoint.empty()) {  // of an earlier run, with --exist-ok
    std::error_code ignored;
    for (const char* name : {"tune.json", "quarantine.tsv"})
      fs::remove(fs::path(folder) / name, ignored);
  }
  const Config wished = config;
  take_share(config, ranks);
  const auto images = std::reduce(whole.images.begin(), whole.images.end());
  decide_by_length(config, images);

  const auto budget = make_budget(config);
  const MemoryMonitor monitor(budget);
  try {
    prepare_compute(config, budget);
    PlannedBytes planned;
    const std::int64_t batch =
        agree_on_batch(program, config, *data, task, budget, folder, planned, ranks);
    if (own_folder && planned.host + planned.device > 0) own_folder->keep();  // it was measured
    if (!checkpoint.empty() && ranks.alone()) {
      planned = recalled_plan(folder, batch, device_of(config).is_cpu());
      if (planned.host > budget->limit()) planned = {};
    }
    if (planned.program > 0) budget->set_base(planned.program);
    if (batch % ranks.place().size != 0)
      throw Error(fmt::format("a batch of {} images cannot be shared by {} ranks", batch,
                              ranks.place().size),
                  {.key = "train.batch"}, "use a multiple of the number of ranks");
    config.train.batch = std::to_string(batch);                      // a resume must not tune again
    if (config.train.nominal_batch != wished.train.nominal_batch) {  // the batch was open until now
      config.train.nominal_batch = wished.train.nominal_batch;
      decide_by_length(config, images);
      if (const auto fewer = nominal_batch(config.train), usual = nominal_batch({}); fewer < usual)
        console.print(fmt::format("a short run: the optimiser steps after {} images instead of {}",
                                  fewer, usual));
    }
    const Run run{config,
                  wished,
                  folder,
                  checkpoint,
                  own_folder ? &*own_folder : nullptr,
                  data,
                  validation,
                  whole.fingerprint,
                  task,
                  budget,
                  planned,
                  ranks};
    fit(program, run, as_json);
  } catch (const std::exception& error) {
    // A batch that is still to be tuned was refused by the tuner, with remedies of its own.
    if (!is_about_memory(error) || plain_batch(config) == 0) throw;
    refuse_memory({config, *data, validation.get(), task, *budget}, error);
  }
}

}  // namespace

void add_train_command(CLI::App& app, Program& program) {
  CLI::App* command = app.add_subcommand("train", "Trains a detector or a classifier");
  command->footer(
      "Examples:\n"
      "  brim train --data data.yaml --model yolov5s --img 640 --batch auto --cache ram\n"
      "  brim train --data photos/ --task classify --model resnet50 --img 224 --epochs 30\n"
      "  brim train --config configs/experiments/detect_scratch.yaml --data data.yaml "
      "train.lr0=0.02\n"
      "  brim train --resume runs/train/exp/last.pt");
  struct State {
    std::unique_ptr<ConfigOptions> options;
    std::string checkpoint;
    bool json = false;
  };
  auto state = std::make_shared<State>();
  state->options = std::make_unique<ConfigOptions>(*command);
  CLI::Option* resume =
      command
          ->add_option("--resume", state->checkpoint,
                       "go on with a stopped run: its last.pt, or the newest below runs/")
          ->expected(0, 1);
  command->add_flag("--json", state->json, "print the result as JSON");
  command->callback([&program, state, resume] {
    catch_stop_signals();
    program.console.set_quiet(state->json);
    for (const std::string& note : state->options->notes()) program.console.warn(note);
    const bool resuming = resume->count() > 0;
    // `--resume key=value`: the option has taken an override for its own value.
    if (is_override(state->checkpoint))
      state->options->add_override(std::exchange(state->checkpoint, {}));
    Config config =
        resuming ? resumed_config(*state->options, state->checkpoint) : state->options->resolve();
    if (!resuming) take_model_of_weights(config, *state->options, program.console);
    train(program, config, resuming ? state->checkpoint : "", state->json);
  });
}

}  // namespace brim::cli
