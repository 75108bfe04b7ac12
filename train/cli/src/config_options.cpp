#include "config_options.h"

#include <algorithm>
#include <cctype>

#include "run_folder.h"

namespace brim::cli {

ConfigOptions::ConfigOptions(CLI::App& app) {
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
  add_value(app, "--freeze", "model.freeze");
  add_value(app, "--label-smoothing", "loss.label_smoothing");
  add_value(app, "--save-period", "train.save_period");
  app.add_option_function<std::string>(
         "--cache",
         [this](const std::string& text) {
           given_.push_back({"loader.cache", text.empty() ? "ram" : text, "--cache"});
         },
         "where images are kept between epochs: auto, none, ram (without a value), disk, lmdb, "
         "tiered")
      ->expected(0, 1)
      ->take_last();
  add_switch(app, "--noval", "train.val", false);
  add_switch(app, "--cos-lr", "train.cosine", true);
  add_switch(app, "--multi-scale", "train.multi_scale", true);
  add_switch(app, "--single-cls", "data.single_class", true);
  add_switch(app, "--image-weights", "data.class_weighted", true);
  add_switch(app, "--noautoanchor", "model.auto_anchor", false);
  add_switch(app, "--noplots", "output.plots", false);
  app.add_option("--project", project_, "folder of runs (with --name)")->take_last();
  app.add_option("--name", name_, "name of the run within --project")->take_last();
  app.add_flag("--exist-ok", exist_ok_,
               "use an existing run folder instead of numbering a new one");
  app.add_option("overrides", overrides_, "any key as key=value, e.g. loader.cache=lmdb");
}

void ConfigOptions::add_value(CLI::App& app, const std::string& flags, const std::string& key) {
  Config defaults;
  std::string help = key;
  for (const Setting& setting : settings_of(defaults)) {
    if (setting.key == key) help = setting.help;
  }
  const std::string first = flags.substr(0, flags.find(','));
  app.add_option_function<std::string>(
         flags,
         [this, key, first](const std::string& text) {
           given_.push_back({key, text, first});
         },
         help)
      ->take_last();
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

/// YOLO writes GPUs as bare numbers.
std::string device_text(const std::string& text) {
  const bool number = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isdigit(c) != 0;
  });
  return number ? "cuda:" + text : text;
}

}  // namespace

Config ConfigOptions::resolve(Config config) const {
  if (!experiment_.empty()) read_yaml(config, experiment_);
  if (!hyp_.empty()) read_hyp(config, hyp_);
  for (const Given& given : given_) {
    const bool device = given.key == "train.device";
    set_value(config, given.key, device ? device_text(given.text) : given.text,
              {.key = given.flag});
  }
  for (const std::string& text : overrides_) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) {
      throw Error("expected key=value, found '" + text + "'", {},
                  "options start with --; overrides look like train.batch=auto");
    }
    set_value(config, text.substr(0, equals), text.substr(equals + 1), {});
  }
  if (!project_.empty() || !name_.empty()) {
    const std::string folder =
        (project_.empty() ? "runs/train" : project_) + "/" + (name_.empty() ? "exp" : name_);
    config.output.dir = exist_ok_ ? folder : next_run_folder(folder);
  }
  return config;
}

}  // namespace brim::cli
