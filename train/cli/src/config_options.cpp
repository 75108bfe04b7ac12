#include "config_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>

#include "brim/train/network.h"
#include "run_folder.h"

namespace brim::cli {

ConfigOptions::ConfigOptions(CLI::App& app, Config defaults)
    : command_(app.get_name()), defaults_(std::move(defaults)) {
  app.add_option("--config", experiment_, "experiment YAML (configs/README.md lists every key)")
      ->take_last();
  app.add_option("--hyp", hyp_, "flat YAML of hyper-parameters as YOLO users keep them")
      ->take_last();
  add_value(app, "--data", "data.path");
  add_value(app, "--task", "data.task");
  add_value(app, "--model,--cfg", "model.name");
  add_value(app, "--weights", "model.weights");
  add_value(app, "--img,--imgsz,--img-size", "train.img");
  add_value(app, "--batch,--batch-size", "train.batch");
  add_value(app, "--epochs", "train.epochs");
  add_value(app, "--workers", "loader.workers");
  add_value(app, "--device", "train.device");
  add_value(app, "--optimizer", "train.optimizer");
  add_value(app, "--precision", "train.precision");
  add_value(app, "--seed", "train.seed");
  add_value(app, "--max-steps", "train.max_steps");
  add_value(app, "--memory", "memory.limit");
  add_value(app, "--output", "output.dir");
  add_value(app, "--patience", "train.patience");
  add_value(app, "--label-smoothing", "loss.label_smoothing");
  add_value(app, "--save-period", "train.save_period");
  add_value(app, "--max-det", "val.max_det");
  add_freeze(app);
  add_cache(app);
  add_switch(app, "--noval", "train.val", false);
  add_switch(app, "--cos-lr", "train.cosine", true);
  add_switch(app, "--multi-scale", "train.multi_scale", true);
  add_switch(app, "--single-cls", "data.single_class", true);
  add_switch(app, "--image-weights", "data.class_weighted", true);
  add_switch(app, "--noautoanchor", "model.auto_anchor", false);
  add_switch(app, "--noplots", "output.plots", false);
  add_switch(app, "--exist-ok", "output.exist_ok", true);
  if (command_ == "train" || command_ == "val" || command_ == "predict") add_habits(app);
  app.add_option("--project", project_, "folder of runs (with --name)")->take_last();
  app.add_option("--name", name_, "name of the run within --project")->take_last();
  app.add_option("overrides", overrides_, "any key as key=value, e.g. loader.cache=lmdb");
}

void ConfigOptions::add_cache(CLI::App& app) {
  app.add_option_function<std::string>(
         "--cache",
         [this](const std::string& text) {
           if (is_override(text)) add_override(text);
           const bool bare = text.empty() || is_override(text);
           given_.push_back({"loader.cache", bare ? "ram" : text, "--cache"});
         },
         "where images are kept between epochs: auto, none, ram (without a value), disk, lmdb, "
         "tiered")
      ->expected(0, 1)
      ->take_last();
}

void ConfigOptions::add_freeze(CLI::App& app) {
  app.add_option_function<std::vector<std::string>>(
         "--freeze",
         [this](const std::vector<std::string>& words) {
           std::vector<std::string> layers;
           for (const std::string& word : words) {
             if (is_override(word)) {
               add_override(word);
             } else {
               layers.push_back(word);
             }
           }
           if (layers.empty())
             throw Error("no layers are given", {.key = "--freeze"},
                         "--freeze 10 freezes the first ten layers");
           for (std::size_t i = 0; layers.size() > 1 && i < layers.size(); ++i)
             if (layers[i] != std::to_string(i))
               throw Error("layers can be frozen from the first on only, found " +
                               fmt::format("{}", fmt::join(layers, " ")),
                           {.key = "--freeze"}, "--freeze 10 freezes the first ten layers");
           given_.push_back({"model.freeze",
                             layers.size() == 1 ? layers[0] : std::to_string(layers.size()),
                             "--freeze"});
         },
         "first layers that stay as they are: how many, or their numbers 0 1 2 ...")
      ->expected(1, CLI::detail::expected_max_vector_size);
}

/// Flags of YOLOv5 that say what brim does anyway, or what it does in another way.
void ConfigOptions::add_habits(CLI::App& app) {
  const auto note = [&](const char* flags, const char* text) {
    const std::string flag = flags;
    app.add_flag_callback(flags, [this, flag, text] { notes_.push_back(flag + ": " + text); })
        ->group("");
  };
  note("--rect", "images are letterboxed to squares; the flag changes nothing");
  note("--quad", "batches are not collated in fours; the flag changes nothing");
  note("--sync-bn", "ranks always share batch-norm statistics; the flag changes nothing");
  const bool predicts = command_ == "predict";
  note("--save-txt", predicts ? "labels are always written; the flag changes nothing"
                              : "brim predict writes labels; the flag changes nothing here");
  note("--save-conf", predicts ? "confidences are always written; the flag changes nothing"
                               : "brim predict writes confidences; the flag changes nothing here");
  note("--save-json", "--json prints the result; the flag changes nothing");
  note("--verbose", "classes are always listed; the flag changes nothing");
  app.add_flag("--half", half_)->group("");
  if (predicts) {
    app.add_flag_callback("--nosave",
                          [this] {
                            given_.push_back({"output.plots", "false", "--nosave"});
                          })
        ->group("");
  } else {
    note("--nosave", "checkpoints are always written; the flag changes nothing");
  }
}

void ConfigOptions::add_value(CLI::App& app, const std::string& flags, const std::string& key) {
  std::string help = key, usual;
  for (const Setting& setting : settings_of(defaults_)) {
    if (setting.key != key) continue;
    help = setting.help;
    usual = value_text(setting.field);
  }
  if (key == "train.img" && defaults_.train.img == 0) usual = "as trained";
  const std::string first = flags.substr(0, flags.find(','));
  app.add_option_function<std::string>(
         flags,
         [this, key, first](const std::string& text) {
           given_.push_back({key, text, first});
         },
         help)
      ->take_last()
      ->default_str(usual);
}

void ConfigOptions::add_switch(CLI::App& app, const std::string& flag, const std::string& key,
                               bool value) {
  app.add_flag_callback(
      flag,
      [this, key, value, flag] {
        given_.push_back({key, value ? "true" : "false", flag});
      },
      key + "=" + (value ? "true" : "false"));
}

namespace {

/// YOLOv5 names its models by the files that describe them: "models/yolov5s.yaml".
std::string built_in_name(const std::string& model) {
  const std::filesystem::path path(model);
  const auto known = known_networks();
  const bool built_in = path.extension() == ".yaml" && !std::filesystem::exists(path) &&
                        std::find(known.begin(), known.end(), path.stem()) != known.end();
  return built_in ? path.stem().string() : model;
}

/// YOLO writes GPUs as bare numbers.
std::string device_text(const std::string& text) {
  if (text.find(',') != std::string::npos)
    throw Error("expected one device, found '" + text + "'", {.key = "--device"},
                "several GPUs: brim launch --nproc N -- train ... --device cuda");
  if (text.empty()) return "cpu";  // YOLOv5's default; brim's is the CPU
  const bool number = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isdigit(c) != 0;
  });
  return number ? "cuda:" + text : text;
}

}  // namespace

bool is_override(const std::string& word) {
  const std::string section = word.substr(0, word.find('.') + 1);
  const std::size_t equals = word.find('=');
  if (section.empty() || equals == std::string::npos || equals < section.size()) return false;
  Config defaults;
  const auto settings = settings_of(defaults);
  return std::any_of(settings.begin(), settings.end(),
                     [&](const Setting& setting) { return setting.key.starts_with(section); }) &&
         !std::filesystem::exists(word);
}

std::vector<std::string> ConfigOptions::all_overrides() const {
  std::vector<std::string> all = overrides_;
  all.insert(all.end(), taken_.begin(), taken_.end());
  return all;
}

bool ConfigOptions::has(const std::string& key) const {
  return std::any_of(given_.begin(), given_.end(),
                     [&](const Given& given) { return given.key == key; }) ||
         std::ranges::any_of(all_overrides(),
                             [&](const std::string& text) { return text.starts_with(key + "="); });
}

Config ConfigOptions::resolve(Config config) const {
  if (!experiment_.empty()) read_yaml(config, experiment_);
  if (!hyp_.empty()) read_hyp(config, hyp_);
  for (const Given& given : given_) {
    // YOLOv5's val calls the split its task.
    const bool split = command_ == "val" && given.flag == "--task" &&
                       (given.text == "train" || given.text == "val" || given.text == "test");
    const bool device = given.key == "train.device";
    set_value(config, split ? "val.split" : given.key,
              device ? device_text(given.text) : given.text, {.key = given.flag});
  }
  for (const std::string& text : all_overrides()) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) {
      throw Error("expected key=value, found '" + text + "'", {},
                  "options start with --; overrides look like train.batch=auto");
    }
    set_value(config, text.substr(0, equals), text.substr(equals + 1), {});
  }
  config.model.name = built_in_name(config.model.name);
  // As in YOLOv5: half precision where there is a GPU.
  if (half_ && config.train.device != "cpu") config.train.precision = "fp16";
  if (!project_.empty() || !name_.empty()) {
    if (has("output.dir"))
      throw Error("the run folder is given twice", {.key = "--output"},
                  "use --output DIR, or --project and --name");
    const std::string folder =
        (project_.empty() ? "runs/" + command_ : project_) + "/" + (name_.empty() ? "exp" : name_);
    config.output.dir = config.output.exist_ok ? folder : next_run_folder(folder);
  }
  return config;
}

}  // namespace brim::cli
