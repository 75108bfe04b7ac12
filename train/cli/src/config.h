#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "brim/cache/error.h"

namespace brim::cli {

struct DataSettings {
  std::string path{};
  std::string task = "auto";
  std::string index_dir = "auto";
  std::string sharding = "record";
  bool single_class = false;
  bool class_weighted = false;
};

struct ModelSettings {
  std::string name = "yolov5n";
  std::string weights{};
  std::int64_t freeze = 0;
  bool auto_anchor = true;
};

struct TrainSettings {
  std::int64_t epochs = 100;
  std::string batch = "16";
  std::int64_t img = 640;
  std::string optimizer = "sgd";
  double lr0 = 0.01, lrf = 0.01, momentum = 0.937, weight_decay = 0.0005;
  double warmup_epochs = 3.0, warmup_momentum = 0.8;
  std::string warmup_bias_lr = "auto";
  bool cosine = false;
  std::string decay = "epoch";
  std::string nominal_batch = "auto";
  double clip_norm = 10.0;
  std::string precision = "auto";
  std::string activation_checkpointing = "auto";
  bool ema = true;
  std::int64_t precise_bn = 128;
  bool multi_scale = false;
  std::int64_t patience = 100;
  std::int64_t max_steps = 0;
  std::int64_t seed = 0;
  bool val = true;
  std::int64_t save_period = 0;
  double checkpoint_minutes = 10;
  std::string threads = "auto";
  std::string device = "cpu";
  std::string cudnn_search = "auto";
  double rank_timeout = 40;
};

struct LossSettings {
  double box = 0.05, cls = 0.5, cls_pw = 1.0, obj = 1.0, obj_pw = 1.0;
  double anchor_t = 4.0, fl_gamma = 0.0, label_smoothing = 0.0;
};

struct AugmentSettings {
  double hsv_h = 0.015, hsv_s = 0.7, hsv_v = 0.4;
  double degrees = 0.0, translate = 0.1, scale = 0.5, shear = 0.0, perspective = 0.0;
  double flipud = 0.0, fliplr = 0.5, mosaic = 1.0, mosaic9 = 0.0, mixup = 0.0, copy_paste = 0.0;
  std::int64_t close_mosaic = 0;
  double min_area = 0.08;
};

struct LoaderSettings {
  std::string workers = "auto";
  std::string prefetch = "auto";
  std::string cache = "none";
  std::string cache_dir = "auto";
  std::string cache_size = "auto";
  std::string cache_share = "never";
  double cache_fill = 0.02;
  std::string content = "decoded";
  std::string partners = "window";
  std::int64_t window = 16;
  std::int64_t lanes = 8;
  std::string truncated = "reject";
  double max_bad_fraction = 0.01;
};

struct MemorySettings {
  std::string limit = "auto";
  std::string device_limit = "auto";
  std::string allocator = "pool";
};

struct ValSettings {
  std::string split = "val";
  double conf = 0.001, iou = 0.6;
  std::int64_t max_det = 300;
  std::string batch = "auto";
};

struct PredictSettings {
  double conf = 0.25, iou = 0.45;
};

struct OutputSettings {
  std::string dir = "auto";
  bool exist_ok = false;
  bool plots = true;
  std::int64_t log_steps = 10;
};

/// Everything an experiment can set; its keys are `section.name`, explained by settings_of().
struct Config {
  DataSettings data;
  ModelSettings model;
  TrainSettings train;
  LossSettings loss;
  AugmentSettings augment;
  LoaderSettings loader;
  MemorySettings memory;
  ValSettings val;
  PredictSettings predict;
  OutputSettings output;
};

using Field = std::variant<std::int64_t*, double*, bool*, std::string*>;

/// One key: where its value lives, what it means, what it accepts.
struct Setting {
  std::string key;
  Field field;
  std::string help;
  std::string accepts;  ///< "a|b|c" of a choice, "min..max" of a number; empty: anything
};

/// Every key of `config`, in the order of configs/README.md.
std::vector<Setting> settings_of(Config& config);

/// The value of a field as set_value() reads it.
std::string value_text(const Field& field);
/// Sets `key` from `text`. Throws Error at `where`: unknown keys name the nearest known one.
void set_value(Config& config, const std::string& key, const std::string& text, const Where& where);
/// Reads an experiment (nested sections) over `config`.
void read_yaml(Config& config, const std::string& path);
/// The same from text that was found in `path` (a checkpoint). Keys that another version of brim
/// had are left out.
void read_yaml_text(Config& config, const std::string& text, const std::string& path);
/// Reads YOLO's flat `hyp` file (lr0, box, mosaic, ...) over `config`.
void read_hyp(Config& config, const std::string& path);
/// The experiment as YAML that read_yaml reads back to the same Config.
std::string to_yaml(const Config& config);
void write_yaml(const Config& config, const std::string& path);
/// Markdown table of every key, its default, what it accepts and means (configs/README.md).
std::string key_table();

/// The candidate closest to `word` by edit distance; empty when nothing is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace brim::cli
