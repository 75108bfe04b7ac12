// brim train: trains a network on a data set and leaves a run folder.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "adaptive_source.h"
#include "brim/cache/memory_monitor.h"
#include "brim/dataloader/loader.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/evaluate.h"
#include "cache_progress.h"
#include "config_options.h"
#include "evaluation.h"
#include "experiment.h"
#include "loaded_model.h"
#include "loader_adjustment.h"
#include "memory_pressure.h"
#include "pictures.h"
#include "program.h"
#include "ranks.h"
#include "run_folder.h"
#include "smallest_budget.h"
#include "train_progress.h"
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
  const fs::path folder = fs::path(checkpoint).parent_path();
  config.output.dir = folder.empty() ? "." : folder.string();
  return config;
}

/// Peaks that a tuned plan predicts, and what of the host's is the program; 0: not known.
struct PlannedBytes {
  std::int64_t host = 0, device = 0, program = 0;
};

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

/// `config` as it is written: what this machine's share was is decided anew by a resume.
Config without_share(Config config, const Config& wished) {
  config.train.threads = wished.train.threads;
  config.train.device = wished.train.device;
  config.loader.workers = wished.loader.workers;
  config.loader.cache_share = wished.loader.cache_share;
  config.memory.limit = wished.memory.limit;
  return config;
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

/// `config` for a network whose weights and anchors come from a checkpoint.
Config without_beginnings(Config config) {
  config.model.weights.clear();
  config.model.auto_anchor = false;
  return config;
}

nlohmann::json by_name(const EvaluationSummary& summary) {
  nlohmann::json metrics;
  for (const auto& [name, value] : summary.metrics) metrics[name] = value;
  return metrics;
}

void print_result(Program& program, const std::string& folder, const TrainResult& result,
                  const EvaluationSummary& best, bool as_json) {
  program.console.print("results, plots and weights are in " + folder);
  if (!as_json) return;
  program.console.json(nlohmann::json({{"folder", folder},
                                       {"reason", to_string(result.reason)},
                                       {"epochs", result.epochs},
                                       {"steps", result.steps},
                                       {"best_fitness", result.best_fitness},
                                       {"best_epoch", result.best_epoch + 1},
                                       {"metrics", by_name(result.last)},
                                       {"best_metrics", by_name(best)}})
                           .dump(2));
}

/// Most bytes that this process had resident so far.
std::int64_t own_resident_peak() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

/// The plan is made for step and loader: what caches hold comes on top of it.
std::string memory_line(std::int64_t planned_bytes, const MemoryBudget& budget) {
  std::int64_t cached = 0;
  for (const MemoryBudget::Holder& holder : budget.holders())
    if (holder.name == "ram cache" || holder.name == "lmdb writer") cached += holder.bytes;
  return fmt::format("memory: predicted peak {} ({} for the step, {} for caches), actual {}",
                     format_bytes(planned_bytes + cached), format_bytes(planned_bytes),
                     format_bytes(cached), format_bytes(own_resident_peak()));
}

std::string device_line(torch::Device device, std::int64_t planned_bytes) {
  const DeviceUse use = device_use(device);
  const std::string predicted =
      planned_bytes > 0 ? fmt::format("predicted peak {}, ", format_bytes(planned_bytes)) : "";
  return fmt::format("{} memory: {}reserved peak {} ({} in tensors) of {}", device.str(), predicted,
                     format_bytes(use.peak_reserved), format_bytes(use.peak_live),
                     format_bytes(device_memory(device).total));
}

/// As configured; a folder that cannot be used costs the run its cache on disk and no more.
std::shared_ptr<Store> open_cache(const Config& config, const std::shared_ptr<MemoryBudget>& budget,
                                  Console& console) {
  try {
    return make_cache(config, budget);
  } catch (const Error& error) {
    if (error.where().key != "cache.dir") throw;
    Config without = config;
    without.loader.cache = config.loader.cache == "tiered" ? "ram" : "none";
    console.warn(
        fmt::format("{}; training goes on with cache {}", error.message(), without.loader.cache));
    return make_cache(without, budget);
  }
}

/// Tells the user once what is wrong with the cache, and once that entries were damaged.
class CacheComplaint {
 public:
  CacheComplaint(Console& console, std::shared_ptr<Store> cache)
      : console_(console), cache_(std::move(cache)) {}
  void tell() {
    if (cache_ == nullptr) return;
    const StoreStats stats = cache_->stats();
    if (!stats.last_error.empty() && stats.last_error != told_)
      console_.warn(stats.last_error + "; training goes on without what it cannot keep");
    told_ = stats.last_error;
    if (stats.damaged > 0 && !told_of_damage_)
      console_.warn(
          fmt::format("damaged entries of the cache, {} so far, are made anew", stats.damaged));
    told_of_damage_ = told_of_damage_ || stats.damaged > 0;
  }

 private:
  Console& console_;
  const std::shared_ptr<Store> cache_;
  std::string told_;
  bool told_of_damage_ = false;
};

/// Keeps the run folder once there is something to show: the first step went well.
class KeepingFolder final : public Observer {
 public:
  explicit KeepingFolder(RunFolder* folder) : folder_(folder) {}
  void on_step(const StepEvent& /*event*/) override {
    if (folder_ != nullptr) folder_->keep();
  }

 private:
  RunFolder* folder_;
};

/// Brings what every rank has met of bad files into rank 0's list, after each epoch.
class SharedQuarantine final : public Observer {
 public:
  SharedQuarantine(const AdaptiveSource& source, ProcessGroup& group, std::string file)
      : source_(source), group_(group), file_(std::move(file)) {}

  void on_epoch(const EpochEvent& /*event*/) override { collect(); }
  /// Called by all ranks.
  void collect() {
    if (group_.size() == 1) return;
    nlohmann::json own = nlohmann::json::array();
    for (const QuarantineEntry& e : source_.quarantine())
      own.push_back({e.index, e.path, e.reason, e.replacement});
    const auto all =
        gather_text(group_, own.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    if (group_.rank() != 0) return;
    met_.clear();
    for (const std::string& text : all)
      for (const auto& e : nlohmann::json::parse(text)) met_.push_back({e[0], e[1], e[2], e[3]});
    list_bad_files(file_, met_);
  }
  std::size_t count() const { return met_.empty() ? source_.quarantine().size() : met_.size(); }

 private:
  const AdaptiveSource& source_;
  ProcessGroup& group_;
  std::string file_;
  std::vector<QuarantineEntry> met_;
};

/// Gives all ranks the weights of rank 0's best.pt, as they were evaluated.
void load_best(Network& network, const std::string& folder, ProcessGroup& group) {
  if (group.rank() == 0) {
    const Checkpoint best = load_checkpoint(folder + "/best.pt");
    load_state(network, best.ema.empty() ? best.model : best.ema);
  }
  if (group.size() == 1) return;
  for (const auto& [name, tensor] : state_of(network)) group.broadcast(tensor, 0);
}

/// The data of a run and its memory.
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

void fit(Program& program, Run& run, bool as_json) {
  Config& config = run.config;
  const std::string& folder = run.folder;
  const auto& data = run.data;
  const auto& validation = run.validation;
  const auto& budget = run.budget;
  const Task task = run.task;
  Console& console = program.console;
  const Ranks& ranks = run.ranks;
  const std::int64_t batch = count_or_auto(config.train.batch, "train.batch");
  const std::int64_t own_batch = batch / ranks.place().size;
  const auto network = build_network(run.checkpoint.empty() ? config : without_beginnings(config),
                                     *data, task, console);
  if (!run.checkpoint.empty()) load_state(*network, load_checkpoint(run.checkpoint).model);
  ranks.take_anchors(*network);
  const auto transform = training_transform(config, task);
  const bool cache_is_chosen = config.loader.cache == "auto";
  const std::string cache_line =
      plan_cache(config, *data, task, own_batch, budget, run.planned.host);
  for (std::string* decided :
       {&config.loader.cache, &config.loader.content, &config.loader.cache_size})
    *decided = text_of_root(*ranks.group(), *decided);
  if (!cache_line.empty()) console.print(cache_line);
  auto cache = open_cache(config, budget, console);
  if (cache_is_chosen) cache = make_watched_store(cache);
  CacheComplaint complaint(console, cache);
  complaint.tell();
  LoaderOptions loader_options = training_loader(config, *data, own_batch, cache, budget);
  ranks.take_samples(loader_options, *data);
  note_use(config, Split::Train, *transform, loader_options);
  const std::string quarantine_file = folder + "/quarantine.tsv";
  if (ranks.root()) {
    if (run.checkpoint.empty()) remove_results(folder);
    loader_options.quarantine_file = quarantine_file;
  }
  const torch::Device device = device_of(config);
  prepare_device(config);
  AdaptiveSource source(data, transform, loader_options, device);

  TrainOptions options = training_options(config, *network, *data, run.fingerprint, batch);
  options.folder = ranks.root() ? folder : "";
  options.config = to_yaml(without_share(config, run.wished));
  options.group = ranks.group();
  options.stop = &stop_requested;

  std::unique_ptr<Evaluation> evaluation;
  if (validation)
    evaluation = std::make_unique<Evaluation>(config, validation, batch, budget, ranks.group());

  Trainer trainer(network, build_objective(config, *network), options);
  if (!run.checkpoint.empty()) trainer.resume(run.checkpoint);
  if (ranks.root()) write_yaml(without_share(config, run.wished), folder + "/config.yaml");
  const bool plots = config.output.plots && ranks.root();
  PictureSource pictures(source, plots ? folder : "", data->class_names());
  CacheProgress filling(cache, data->size());
  const auto verdict = [&](double seconds, double waited) {
    complaint.tell();
    LoaderStatistics statistics = source.loader().statistics();
    // The training's own clock, as in its table: the loader's also runs between batches.
    statistics.elapsed_ns = static_cast<std::int64_t>(1e9 * seconds);
    statistics.consumer_wait_ns = static_cast<std::int64_t>(1e9 * waited);
    return std::vector<std::string>{bottleneck(statistics), filling.epoch(statistics)};
  };
  TrainProgress progress(console, verdict,
                         [&] { return filling.line(source.loader().statistics()); });
  std::vector<std::unique_ptr<Observer>> files;
  if (ranks.root()) {
    files.push_back(make_csv_writer(folder + "/results.csv"));
    files.push_back(make_jsonl_writer(folder + "/metrics.jsonl", config.output.log_steps));
  }
  KeepingFolder keeping(run.own_folder);
  SharedQuarantine quarantine(source, *ranks.group(), quarantine_file);
  std::vector<Observer*> observers{&keeping, &quarantine, &pictures};
  for (const auto& file : files) observers.push_back(file.get());
  if (ranks.root()) observers.push_back(&progress);
  const double planned_share = static_cast<double>(run.planned.host) /
                               static_cast<double>(std::max<std::int64_t>(1, budget->limit()));
  MemoryPressure pressure(
      {trainer, source, budget, planned_share, observers, ranks.place().size, device.is_cpu()});
  LoaderAdjustment adjustment(source, pressure, observers);
  observers.push_back(&pressure);
  if (count_or_auto(config.loader.workers, "loader.workers") == kAuto)
    observers.push_back(&adjustment);

  const TrainResult result =
      trainer.fit(pictures,
                  evaluation ? Evaluator([&](Network& n) { return evaluation->summary(n, device); })
                             : Evaluator(),
                  observers);
  complaint.tell();
  quarantine.collect();
  const bool evaluated = evaluation && evaluation->result().images > 0;
  EvaluationSummary best = result.last;
  if (evaluated && result.best_epoch != result.last_epoch && result.reason != EndReason::Stopped) {
    load_best(*network, folder, *ranks.group());
    best = evaluation->summary(*network, device);
  }
  ranks.group()->leave();
  if (!pressure.summary().empty()) console.print("memory was short: " + pressure.summary());
  if (run.planned.host > 0) console.print(memory_line(run.planned.host, *budget));
  if (!device.is_cpu()) console.print(device_line(device, run.planned.device));
  if (ranks.root() && quarantine.count() > 0) {
    console.warn(fmt::format("{} unreadable images were replaced; {} lists them",
                             quarantine.count(), quarantine_file));
  }
  if (evaluation) evaluation->warn_of_unreadable(console);
  if (evaluated) {
    console.print(result.reason == EndReason::Stopped
                      ? fmt::format("last evaluation, of epoch {}:", result.last_epoch + 1)
                      : fmt::format("best.pt, of epoch {}:", result.best_epoch + 1));
    evaluation->print_table(console);
    if (plots) evaluation->draw(folder);
  }
  if (plots) {
    if (task == Task::Detect) {
      plot_labels(label_statistics(*data), data->class_names(), folder + "/labels.png");
    }
    draw_results(folder);
  }
  print_result(program, folder, result, best, as_json && ranks.root());
  if (result.reason == EndReason::Stopped) program.exit_code = pressure.stop() ? 2 : 130;
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
  if (ranks.root() && checkpoint.empty() && !config.output.exist_ok && config.output.dir != "auto")
    require_unused(config.output.dir);
  std::optional<RunFolder> own_folder;
  if (ranks.root()) own_folder.emplace(config.output, "runs/train/exp");
  const std::string folder =
      text_of_root(*ranks.group(), own_folder ? own_folder->path() : std::string());
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
    Run run{config,
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
