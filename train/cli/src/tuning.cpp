#include "tuning.h"

#include <fmt/format.h>
#include <torch/version.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "account.h"
#include "brim/autotune/probe_process.h"
#include "brim/cache/key.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/checkpoint.h"
#include "evaluation.h"
#include "experiment.h"
#include "training.h"

namespace brim::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A file that is gone when the scope ends.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& text) {
    path_ = (fs::temp_directory_path() / "brim-probe-XXXXXX").string();
    const int fd = mkstemp(path_.data());
    if (fd < 0) throw Error("cannot make a temporary file", {.file = path_});
    close(fd);
    std::ofstream(path_) << text;
  }
  ~ScratchFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Most labels that one training sample can show: the fullest image, as often as a mosaic holds it.
std::int64_t most_boxes(const Config& config, const Dataset& dataset) {
  std::size_t most = 1;
  RecordScratch scratch;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    most = std::max(most, dataset.record(i, scratch).boxes.size());
  }
  const int tiles = config.augment.mosaic9 > 0 ? 9 : config.augment.mosaic > 0 ? 4 : 1;
  return static_cast<std::int64_t>(most) * tiles * (config.augment.mixup > 0 ? 2 : 1);
}

/// What a remembered result must have in common with the case at hand.
std::string case_of(const Config& config, const autotune::Goal& goal, std::int64_t boxes,
                    std::size_t classes) {
  const TrainSettings& t = config.train;
  return fmt::format("v8|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}", config.model.name,
                     classes, largest_side(config), t.precision, t.activation_checkpointing,
                     t.device, t.optimizer, t.ema, t.nominal_batch, t.batch,
                     compute_threads(config), goal.loader_bytes(16) >> 26, goal.own_bytes >> 26,
                     boxes / 16, config.model.freeze, config.memory.allocator,
                     describe_device(device_of(config)) + " " + config.memory.device_limit + " " +
                         config.train.cudnn_search + " " + TORCH_VERSION);
}

std::string memory_file(const std::string& key_text) {
  const std::string folder = user_cache_directory();
  if (folder.empty()) return "";
  const CacheKey key = make_cache_key({.path = key_text}, "tune");
  return fmt::format("{}/tune/{:016x}{:016x}.json", folder, key.high, key.low);
}

json fit_json(const autotune::AffineFit& fit) {
  return {{"constant", fit.constant}, {"slope", fit.slope}, {"relative_error", fit.relative_error}};
}

json plan_json(const autotune::BatchPlan& plan) {
  json tried = json::array();
  for (autotune::Measurement m : plan.tried) {
    m.trace.clear();  // of use while choosing only
    tried.push_back(json::parse(autotune::to_json(m)));
  }
  return {{"batch", plan.batch},
          {"accumulate", plan.accumulate},
          {"largest_batch", plan.largest_batch},
          {"predicted_peak_bytes", plan.predicted_peak_bytes},
          {"measured_peak_bytes", plan.measured_peak_bytes},
          {"program_bytes", plan.program_bytes},
          {"predicted_images_per_second", plan.predicted_images_per_second},
          {"memory_fit", fit_json(plan.memory)},
          {"seconds_fit", fit_json(plan.step_seconds)},
          {"tried", tried},
          {"warnings", plan.warnings},
          {"why", plan.why}};
}

autotune::AffineFit fit_from(const json& document) {
  return {document.at("constant"), document.at("slope"), document.at("relative_error")};
}

/// A plan and what it rests on beside the configuration.
struct Choice {
  autotune::BatchPlan plan{};
  bool recompute = false;
  bool bf16 = false;
};

/// Empty where nothing (readable) is remembered, or for a budget that differs by over a tenth:
/// smaller changes come and go with other programs and do not move the choice.
std::optional<Choice> remembered_plan(const std::string& file, const autotune::Goal& goal,
                                      std::int64_t free_on_device) {
  std::ifstream in(file);
  if (!in) return std::nullopt;
  const json document = json::parse(in, nullptr, false);
  try {
    const json& p = document.at("plan");
    const double then = document.at("budget_bytes").get<double>();
    const auto now = static_cast<double>(goal.byte_budget > 0 ? goal.byte_budget : free_on_device);
    const bool fits = p.at("predicted_peak_bytes").get<double>() <= (1 - goal.safety) * now;
    if (!fits || (goal.byte_budget > 0 && std::abs(now - then) > 0.1 * then)) return std::nullopt;
    autotune::BatchPlan plan;
    plan.byte_budget = document.at("budget_bytes");
    plan.batch = p.at("batch");
    plan.accumulate = p.at("accumulate");
    plan.largest_batch = p.at("largest_batch");
    plan.predicted_peak_bytes = p.at("predicted_peak_bytes");
    plan.measured_peak_bytes = p.at("measured_peak_bytes");
    plan.program_bytes = p.at("program_bytes");
    plan.predicted_images_per_second = p.at("predicted_images_per_second");
    plan.memory = fit_from(p.at("memory_fit"));
    plan.step_seconds = fit_from(p.at("seconds_fit"));
    for (const json& m : p.at("tried")) {
      plan.tried.push_back(autotune::measurement_from_json(m.dump()));
    }
    plan.warnings = p.at("warnings").get<std::vector<std::string>>();
    plan.why = p.at("why");
    return Choice{plan, document.at("recompute_activations"), document.at("bf16")};
  } catch (const std::exception&) {
    return std::nullopt;  // written by another version: measured anew
  }
}

double share_of_memory(const Config& config) {
  double share = 0;
  const std::string& text = config.train.batch;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), share);
  const bool number = result.ec == std::errc() && result.ptr == text.data() + text.size();
  return number && share > 0 && share < 1 ? share : 1.0;
}

autotune::Goal goal_of(const Config& config, const Dataset& dataset, Task task,
                       MemoryBudget& budget) {
  const auto transform = training_transform(config, task);
  const auto evaluated = evaluation_transform(config, task);
  const auto loader_bytes = [&](std::int64_t batch) {
    const auto bytes_of = [&](const LoaderOptions& options, const Transform& samples) {
      return make_plan(options, dataset, samples, budget).total_bytes;
    };
    std::int64_t bytes =
        bytes_of(training_loader(config, dataset, batch, nullptr, nullptr), *transform);
    // It stands beside the training's; of pictures like these.
    if (config.train.val) bytes += bytes_of(Evaluation::loader(config, batch, nullptr), *evaluated);
    return bytes;
  };
  autotune::Goal goal;
  if (device_of(config).is_cpu()) {
    goal.byte_budget =
        static_cast<std::int64_t>(static_cast<double>(budget.limit()) * share_of_memory(config));
    const std::int64_t of_one = loader_bytes(1), of_two = loader_bytes(2);
    goal.loader_bytes_per_image = of_two - of_one;
    goal.reserved_for_loader = of_one - goal.loader_bytes_per_image;
    goal.own_bytes = read_memory_limits().own_resident;
    // Blocks of many sizes leave gaps that no single size shows: up to 4.3% were seen.
    if (config.train.multi_scale) goal.safety = 0.05;
  } else {
    goal.safety = 1 - (1 - goal.safety) * share_of_memory(config);  // of what the probe finds
  }
  goal.nominal_batch = nominal_batch(config.train);
  goal.fixed_batch = plain_batch(config);
  return goal;
}

}  // namespace

std::int64_t plain_batch(const Config& config) {
  const std::string& text = config.train.batch;
  if (text == "auto" || text == "-1" || share_of_memory(config) < 1) return 0;
  const std::int64_t batch = count_or_auto(text, "train.batch");
  if (batch < 1 || batch > 65536) {
    throw Error(
        "expected a number of images, auto (-1) or a share of memory below 1, found '" + text + "'",
        {.key = "train.batch"}, "as in --batch 16, --batch auto or --batch 0.8");
  }
  return batch;
}

namespace {

/// Probes `config` in child processes and chooses.
autotune::BatchPlan choose_as_configured(Program& program, const Config& config,
                                         const Dataset& dataset, std::int64_t boxes,
                                         const autotune::Goal& goal,
                                         const std::function<void()>& meanwhile) {
  Config probed = config;
  probed.train.img = largest_side(config);
  const ScratchFile resolved(to_yaml(probed));
  const autotune::ProbeProcessOptions options{
      .executable = program.executable,
      .arguments = {"probe", "--config", resolved.path(), "--classes",
                    std::to_string(dataset.class_names().size()), "--boxes", std::to_string(boxes),
                    "--limit", std::to_string(goal.byte_budget)},
      .timeout_seconds = 120};
  autotune::ProbeProcess process(options);
  process.start();
  if (meanwhile) meanwhile();
  autotune::SearchSpace space;
  if (goal.byte_budget == 0) {
    space.max_batch = 4096;
    space.first_probes = {8, 32};  // a GPU is not busy with less
  }
  return autotune::choose_batch(space, goal, [&](std::int64_t batch) {
    program.console.progress(fmt::format("probing batch {} ...", batch));
    return process.measure(batch);
  });
}

/// Chooses among what the configuration leaves open.
class Chooser {
 public:
  Chooser(Program& program, const Config& config, const Dataset& dataset, std::int64_t boxes,
          const autotune::Goal& goal, const std::function<void()>& meanwhile)
      : program_(program),
        config_(config),
        dataset_(dataset),
        boxes_(boxes),
        goal_(goal),
        meanwhile_(meanwhile) {}

  /// Where memory leaves less than batch normalisation needs, recomputed activations are tried
  /// before that is accepted. bf16 competes where the CPU has instructions for it: elsewhere it is
  /// many times slower. What does not fit in any way is refused with the account.
  Choice choose() {
    const bool precision_is_open =
        config_.train.precision == "auto" && device_of(config_).is_cpu() && cpu_multiplies_bf16();
    const bool recompute_is_open = config_.train.activation_checkpointing == "auto";
    Choice best = attempt({});
    if (precision_is_open) {
      const Choice half = attempt({.bf16 = true});
      if (speed(half) > speed(best) * (1 + goal_.throughput_tolerance))
        best = explained(half, "bf16 is faster here than fp32");
    }
    const std::int64_t enough = goal_.fixed_batch > 0 ? goal_.fixed_batch : goal_.batch_norm_floor;
    if (best.plan.batch < enough && recompute_is_open) {
      const Choice other = attempt({.recompute = true, .bf16 = best.bf16});
      if (other.plan.batch > best.plan.batch)
        best = explained(other, "activations are recomputed: without that " + fitting(best));
    }
    if (best.plan.batch == 0)
      refuse_budget(config_, static_cast<int>(dataset_.class_names().size()), boxes_, goal_,
                    refused_);
    return best;
  }

 private:
  /// Without a plan where not one image fits. `choice.plan` is what is sought.
  Choice attempt(Choice choice) {
    Config changed = config_;
    if (choice.recompute) changed.train.activation_checkpointing = "on";
    if (choice.bf16) changed.train.precision = "bf16";
    try {
      choice.plan = choose_as_configured(program_, changed, dataset_, boxes_, goal_, meanwhile_);
    } catch (const Error& error) {
      if (error.where().key != "memory.limit") throw;
      if (refused_.empty()) refused_ = error.message();
    }
    return choice;
  }

  static double speed(const Choice& choice) { return choice.plan.predicted_images_per_second; }

  static Choice explained(Choice choice, const std::string& why) {
    choice.plan.why += "; " + why;
    return choice;
  }

  std::string fitting(const Choice& choice) const {
    if (goal_.fixed_batch > 0) return "they do not fit";
    return choice.plan.batch == 0 ? "not one image fits"
                                  : fmt::format("only {} images fit", choice.plan.batch);
  }

  Program& program_;
  const Config& config_;
  const Dataset& dataset_;
  const std::int64_t boxes_;
  const autotune::Goal& goal_;
  const std::function<void()>& meanwhile_;
  std::string refused_;
};

}  // namespace

TunedBatch tune_batch(Program& program, const Config& config, const Dataset& dataset, Task task,
                      const std::shared_ptr<MemoryBudget>& budget, Memory memory,
                      const std::function<void()>& meanwhile) {
  const auto start = std::chrono::steady_clock::now();
  TunedBatch tuned;
  tuned.goal = goal_of(config, dataset, task, *budget);
  const std::int64_t boxes = task == Task::Detect ? most_boxes(config, dataset) : 0;
  const std::string file =
      memory_file(case_of(config, tuned.goal, boxes, dataset.class_names().size()));
  if (memory == Memory::Reuse && !file.empty()) {
    const std::int64_t free =
        fs::exists(file) ? device_memory(device_of(config)).free : 0;  // asking takes memory itself
    if (auto known = remembered_plan(file, tuned.goal, free)) {
      tuned.plan = std::move(known->plan);
      tuned.recompute = known->recompute;
      tuned.bf16 = known->bf16;
      tuned.remembered = true;
      return tuned;
    }
  }
  const Choice choice = Chooser(program, config, dataset, boxes, tuned.goal, meanwhile).choose();
  tuned.plan = choice.plan;
  tuned.goal.byte_budget = tuned.plan.byte_budget;
  tuned.recompute = choice.recompute;
  tuned.bf16 = choice.bf16;
  tuned.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!file.empty()) {
    try {
      fs::create_directories(fs::path(file).parent_path());
      const std::string text = tuned_json(tuned);
      write_file_atomically(file, text.data(), text.size());
    } catch (const std::exception& error) {
      program.console.warn(std::string("the result is not remembered: ") + error.what());
    }
  }
  return tuned;
}

std::string tuned_json(const TunedBatch& tuned) {
  json document{{"plan", plan_json(tuned.plan)},
                {"budget_bytes", tuned.goal.byte_budget},
                {"loader_bytes", tuned.goal.loader_bytes(tuned.plan.batch)},
                {"recompute_activations", tuned.recompute},
                {"bf16", tuned.bf16},
                {"remembered", tuned.remembered},
                {"seconds", tuned.seconds}};
  const CorePlan& cores = tuned.cores;
  if (cores.loader_seconds_per_image > 0) {
    document["cores"] = {{"threads", cores.joint.chosen.threads},
                         {"workers", cores.joint.chosen.workers},
                         {"images_per_second", cores.joint.chosen.images_per_second},
                         {"limited_by", cores.joint.limited_by},
                         {"loader_seconds_per_image", cores.loader_seconds_per_image},
                         {"loader_verified_images_per_second", cores.verified_images_per_second},
                         {"why", cores.joint.why}};
    document["loader"] = {{"prefetch", cores.prefetch_batches},
                          {"cache", cores.cache},
                          {"content", cores.content},
                          {"cache_bytes", cores.cache_bytes},
                          {"why", cores.cache_why}};
  }
  return document.dump(2);
}

std::string tuned_yaml(const TunedBatch& tuned) {
  std::string text = fmt::format("# {}\ntrain:\n  batch: {}\n", tuned.plan.why, tuned.plan.batch);
  if (tuned.bf16) text += "  precision: bf16\n";
  if (tuned.recompute) text += "  activation_checkpointing: \"on\"\n";
  if (tuned.cores.loader_seconds_per_image > 0) {
    const autotune::JointSplit& split = tuned.cores.joint.chosen;
    text +=
        fmt::format("  threads: {}\nloader:\n  workers: {}\n  prefetch: {}\n  cache: {}\n",
                    split.threads, split.workers, tuned.cores.prefetch_batches, tuned.cores.cache);
    if (tuned.cores.cache != "none") text += "  content: " + tuned.cores.content + "\n";
    if (tuned.cores.cache_bytes > 0)
      text += fmt::format("  cache_size: {}\n", tuned.cores.cache_bytes);
  }
  return text;
}

}  // namespace brim::cli
