// The training itself: everything that stands beside the Trainer, and what is told at the end.
#include "fit.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "adaptive_source.h"
#include "brim/dataloader/loader.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/evaluate.h"
#include "cache_progress.h"
#include "evaluation.h"
#include "experiment.h"
#include "loader_adjustment.h"
#include "memory_pressure.h"
#include "pictures.h"
#include "run_observers.h"
#include "train_progress.h"
#include "training.h"
#include "tuning.h"

namespace brim::cli {
namespace {

/// `config` as it is written: what this machine's share was is decided anew by a resume.
Config without_share(Config config, const Config& wished) {
  config.train.threads = wished.train.threads;
  config.train.device = wished.train.device;
  config.loader.workers = wished.loader.workers;
  config.loader.cache_share = wished.loader.cache_share;
  config.memory.limit = wished.memory.limit;
  config.output.exist_ok = false;  // said once, of one folder
  return config;
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
    if (error.where().key != "loader.cache_dir") throw;
    Config without = config;
    without.loader.cache = config.loader.cache == "tiered" ? "ram" : "none";
    console.warn(
        fmt::format("{}; training goes on with cache {}", error.message(), without.loader.cache));
    return make_cache(without, budget);
  }
}

/// One training with all that watches it. Members are made in the order of their declaration.
class Fitting {
 public:
  Fitting(Program& program, const Run& run)
      : console_(program.console),
        run_(run),
        config_(run.config),
        ranks_(run.ranks),
        batch_(count_or_auto(config_.train.batch, "train.batch")),
        device_(device_of(config_)),
        plots_(config_.output.plots && ranks_.root()) {
    make_network();
    open_store();
    make_source();
    if (run_.validation)
      evaluation_ = std::make_unique<Evaluation>(config_, run_.validation, batch_, run_.budget,
                                                 ranks_.group());
    make_trainer();
    make_observers();
  }

  TrainResult train();
  /// Figures of best.pt; nothing where an earlier session made it.
  std::optional<EvaluationSummary> best() const { return marks_ ? marks_->best() : std::nullopt; }
  void report(const TrainResult& result);
  /// Whether memory, and not the user, ended the run.
  bool stopped_by_memory() const { return pressure_->stop(); }

 private:
  void make_network();
  void open_store();
  void make_source();
  void make_trainer();
  void make_observers();
  std::vector<std::string> verdict(double seconds, double waited);

  Console& console_;
  const Run& run_;
  Config config_;
  const Ranks& ranks_;
  const std::int64_t batch_;  ///< of all ranks
  const torch::Device device_;
  const bool plots_;
  std::shared_ptr<Network> network_;
  std::shared_ptr<Store> cache_;
  std::unique_ptr<CacheComplaint> complaint_;
  std::unique_ptr<AdaptiveSource> source_;
  std::unique_ptr<Evaluation> evaluation_;
  std::shared_ptr<Objective> objective_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<CacheProgress> filling_;
  std::unique_ptr<KeepingFolder> keeping_;
  std::unique_ptr<PictureSource> pictures_;
  std::unique_ptr<BestMark> marks_;
  std::unique_ptr<SharedQuarantine> quarantine_;
  std::vector<std::unique_ptr<Observer>> owned_;
  std::unique_ptr<MemoryPressure> pressure_;
  std::unique_ptr<LoaderAdjustment> adjustment_;
  std::vector<Observer*> observers_;
};

void Fitting::make_network() {
  const bool resumed = !run_.checkpoint.empty();
  network_ = build_network(resumed ? without_beginnings(config_) : config_, *run_.data, run_.task,
                           console_);
  if (resumed) load_state(*network_, load_checkpoint(run_.checkpoint).model);
  ranks_.take_anchors(*network_);
}

void Fitting::open_store() {
  const bool cache_is_chosen = config_.loader.cache == "auto";
  const std::string line = plan_cache(config_, *run_.data, run_.task, batch_ / ranks_.place().size,
                                      run_.budget, run_.planned.host);
  for (std::string* decided :
       {&config_.loader.cache, &config_.loader.content, &config_.loader.cache_size})
    *decided = text_of_root(*ranks_.group(), *decided);
  if (!line.empty()) console_.print(line);
  cache_ = open_cache(config_, run_.budget, console_);
  if (cache_is_chosen) cache_ = make_watched_store(cache_);
  complaint_ = std::make_unique<CacheComplaint>(console_, cache_);
  complaint_->tell();
}

void Fitting::make_source() {
  const auto transform = training_transform(config_, run_.task);
  LoaderOptions options =
      training_loader(config_, *run_.data, batch_ / ranks_.place().size, cache_, run_.budget);
  ranks_.take_samples(options, *run_.data);
  note_use(config_, Split::Train, *transform, options);
  const std::string quarantine_file = run_.folder + "/quarantine.tsv";
  if (ranks_.root()) options.quarantine_file = quarantine_file;
  prepare_device(config_);
  source_ = std::make_unique<AdaptiveSource>(run_.data, transform, options, device_);
  quarantine_ = std::make_unique<SharedQuarantine>(*source_, *ranks_.group(), quarantine_file);
}

void Fitting::make_trainer() {
  TrainOptions options = training_options(config_, *network_, *run_.data, run_.fingerprint, batch_);
  const Config written = without_share(config_, run_.wished);
  options.folder = ranks_.root() ? run_.folder : "";
  options.config = to_yaml(written);
  options.group = ranks_.group();
  options.stop = &stop_requested;
  objective_ = build_objective(config_, *network_);
  trainer_ = std::make_unique<Trainer>(network_, objective_, options);
  if (!run_.checkpoint.empty()) trainer_->resume(run_.checkpoint);
  if (ranks_.root()) write_yaml(written, run_.folder + "/config.yaml");
}

void Fitting::make_observers() {
  pictures_ = std::make_unique<PictureSource>(*source_, plots_ ? run_.folder : "",
                                              run_.data->class_names());
  filling_ = std::make_unique<CacheProgress>(cache_, run_.data->size());
  if (ranks_.root()) {
    owned_.push_back(make_csv_writer(run_.folder + "/results.csv"));
    owned_.push_back(make_jsonl_writer(run_.folder + "/metrics.jsonl", config_.output.log_steps));
    owned_.push_back(std::make_unique<TrainProgress>(
        console_, [this](double seconds, double waited) { return verdict(seconds, waited); },
        [this] { return filling_->line(source_->statistics()); }));
  }
  keeping_ = std::make_unique<KeepingFolder>(run_.own_folder, run_.checkpoint.empty());
  observers_ = {keeping_.get(), pictures_.get(), quarantine_.get()};
  if (evaluation_) {
    marks_ = std::make_unique<BestMark>(*evaluation_);
    observers_.push_back(marks_.get());
  }
  for (const auto& one : owned_) observers_.push_back(one.get());
  const double planned_share = static_cast<double>(run_.planned.host) /
                               static_cast<double>(std::max<std::int64_t>(1, run_.budget->limit()));
  pressure_ = std::make_unique<MemoryPressure>(
      MemoryPressure::Parts{*trainer_, *source_, run_.budget, planned_share, observers_,
                            ranks_.place().size, device_.is_cpu()});
  adjustment_ = std::make_unique<LoaderAdjustment>(*source_, *pressure_, observers_);
  observers_.push_back(pressure_.get());
  if (count_or_auto(config_.loader.workers, "loader.workers") == kAuto)
    observers_.push_back(adjustment_.get());
}

std::vector<std::string> Fitting::verdict(double seconds, double waited) {
  complaint_->tell();
  LoaderStatistics statistics = source_->statistics();
  // The training's own clock, as in its table: the loader's also runs between batches.
  statistics.elapsed_ns = static_cast<std::int64_t>(1e9 * seconds);
  statistics.consumer_wait_ns = static_cast<std::int64_t>(1e9 * waited);
  return {bottleneck(statistics), filling_->epoch(statistics)};
}

TrainResult Fitting::train() {
  Evaluator evaluator;
  if (evaluation_)
    evaluator = [this](Network& network) {
      return evaluation_->summary(network, device_, objective_.get());
    };
  const TrainResult result = trainer_->fit(*pictures_, evaluator, observers_);
  complaint_->tell();
  quarantine_->collect();
  return result;
}

void Fitting::report(const TrainResult& result) {
  if (!pressure_->summary().empty()) console_.print("memory was short: " + pressure_->summary());
  if (run_.planned.host > 0) console_.print(memory_line(run_.planned.host, *run_.budget));
  if (!device_.is_cpu()) console_.print(device_line(device_, run_.planned.device));
  if (ranks_.root() && quarantine_->count() > 0)
    console_.warn(fmt::format("{} unreadable images were replaced; {} lists them",
                              quarantine_->count(), quarantine_->file()));
  if (evaluation_) evaluation_->warn_of_unreadable(console_);
  if (evaluation_ && ranks_.root()) list_bad_files(quarantine_->file(), evaluation_->unreadable());
  if (evaluation_ && evaluation_->result().images > 0) {
    const bool best = evaluation_->show_best();
    console_.print(best ? fmt::format("best.pt, of epoch {}:", result.best_epoch + 1)
                        : fmt::format("epoch {} (best.pt is of epoch {}; brim val --weights "
                                      "{}/best.pt measures it):",
                                      result.last_epoch + 1, result.best_epoch + 1, run_.folder));
    evaluation_->print_table(console_);
    if (plots_) evaluation_->draw(run_.folder);
  }
  if (plots_ && run_.task == Task::Detect)
    plot_labels(label_statistics(*run_.data), run_.data->class_names(),
                run_.folder + "/labels.png");
  if (plots_) draw_results(run_.folder);
  console_.print("results, plots and weights are in " + run_.folder);
}

std::string result_json(const std::string& folder, const TrainResult& result,
                        const std::optional<EvaluationSummary>& best) {
  return nlohmann::json({{"folder", folder},
                         {"reason", to_string(result.reason)},
                         {"epochs", result.epochs},
                         {"steps", result.steps},
                         {"best_fitness", result.best_fitness},
                         {"best_epoch", result.best_epoch + 1},
                         {"metrics", by_name(result.last)},
                         {"best_metrics", best ? by_name(*best) : nlohmann::json()}})
      .dump(2);
}

}  // namespace

void fit(Program& program, const Run& run, bool as_json) {
  Fitting fitting(program, run);
  const TrainResult result = fitting.train();
  run.ranks.group()->leave();
  fitting.report(result);
  if (as_json && run.ranks.root())
    program.console.json(result_json(run.folder, result, fitting.best()));
  if (result.reason == EndReason::Stopped)
    program.exit_code = fitting.stopped_by_memory() ? 2 : 130;
}

}  // namespace brim::cli
