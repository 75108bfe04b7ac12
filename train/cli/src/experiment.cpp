#include "experiment.h"

#include <malloc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "brim/cache/error.h"
#include "brim/dataloader/cache_choice.h"
#include "cache_uses.h"
#include "program.h"

namespace brim::cli {
namespace {

DecodeLimits decode_limits(const Config& config) {
  DecodeLimits limits;
  limits.truncated = config.loader.truncated == "accept" ? Truncated::Accept : Truncated::Reject;
  return limits;
}

std::string index_directory(const Config& config) {
  if (config.data.index_dir == "none") return "";
  if (config.data.index_dir != "auto") return config.data.index_dir;
  const std::string cache = user_cache_directory();
  return cache.empty() ? "" : cache + "/index";
}

/// Weights that make every class equally likely: a sample weighs the sum over its labels of
/// 1 / (labels of that class); an unlabelled one as the lightest labelled one.
std::vector<double> balanced_weights(const Dataset& dataset) {
  RecordScratch scratch;
  std::vector<double> labels(dataset.class_names().size(), 0.0);
  const auto for_each_label = [&](std::int64_t index, auto&& visit) {
    const Record record = dataset.record(index, scratch);
    for (const Box& box : record.boxes) visit(static_cast<std::size_t>(box.class_id));
    if (record.class_id >= 0) visit(static_cast<std::size_t>(record.class_id));
  };
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    for_each_label(i, [&](std::size_t id) { labels.at(id) += 1; });
  }
  std::vector<double> weights(static_cast<std::size_t>(dataset.size()), 0.0);
  double lightest = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    double& weight = weights[static_cast<std::size_t>(i)];
    for_each_label(i, [&](std::size_t id) { weight += 1 / labels[id]; });
    if (weight > 0 && (lightest == 0 || weight < lightest)) lightest = weight;
  }
  for (double& weight : weights) weight = weight > 0 ? weight : std::max(lightest, 1e-12);
  return weights;
}

LoaderOptions common_loader(const Config& config, std::int64_t batch, std::shared_ptr<Store> cache,
                            std::shared_ptr<MemoryBudget> budget) {
  LoaderOptions options;
  options.batch_size = batch;
  options.workers = static_cast<int>(count_or_auto(config.loader.workers, "loader.workers"));
  options.prefetch_batches =
      static_cast<int>(count_or_auto(config.loader.prefetch, "loader.prefetch"));
  options.seed = static_cast<std::uint64_t>(config.train.seed);
  options.decode = decode_limits(config);
  options.cache = std::move(cache);
  options.cache_content =
      config.loader.content == "encoded" ? CacheContent::Encoded : CacheContent::Decoded;
  options.fill_share = config.loader.cache_fill;
  options.budget = std::move(budget);
  options.max_bad_fraction = config.loader.max_bad_fraction;
  return options;
}

}  // namespace

std::int64_t count_or_auto(const std::string& text, const std::string& key) {
  if (text == "auto" || text == "-1") return kAuto;
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || value < 0) {
    throw Error("expected a count or auto, found '" + text + "'", {.key = key},
                "give a whole number, or auto to let brim choose");
  }
  return value;
}

double number_or_auto(const std::string& text, const std::string& key, double automatic) {
  if (text == "auto") return automatic;
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || !(value >= 0) ||
      !std::isfinite(value)) {
    throw Error("expected a number that is not negative, or auto, found '" + text + "'",
                {.key = key});
  }
  return value;
}

std::shared_ptr<const Dataset> open_data(const Config& config, Split split, int part, int parts) {
  if (config.data.path.empty()) {
    throw Error("no data given", {.key = "data.path"},
                "name a data.yaml, a folder of class folders, COCO JSON, tar shards or IDX files "
                "with --data");
  }
  DatasetOptions options;
  options.split = split;
  options.single_class = config.data.single_class;
  options.index_directory = index_directory(config);
  options.part = part;
  options.parts = parts;
  return open_dataset(config.data.path, options);
}

std::int64_t stride_of(const std::string& model) {
  if (model.starts_with("resnet")) return 1;
  return model.starts_with("yolov5") && model.size() == 7 ? 32 : 64;
}

std::int64_t largest_side(const Config& config) {
  if (!config.train.multi_scale) return config.train.img;
  const std::int64_t stride = stride_of(config.model.name);
  return (config.train.img * 3 / 2 + stride - 1) / stride * stride;
}

Task task_of(const Config& config, const Dataset& dataset) {
  if (config.data.task == "detect" && dataset.task() != Task::Detect) {
    throw Error("the data has classes but no boxes, so a detector cannot learn from it",
                {.key = "data.task"}, "leave --task away, or use --task classify");
  }
  if (config.data.task == "classify" && dataset.task() != Task::Classify) {
    throw Error("the data has boxes, not one class per image", {.key = "data.task"},
                "leave --task away, or use --task detect");
  }
  return dataset.task();
}

std::shared_ptr<MemoryBudget> make_budget(std::int64_t byte_limit, std::int64_t growth,
                                          int workers) {
  constexpr std::int64_t kStack = std::int64_t{8} << 20;
  const MemoryLimits limits = read_memory_limits(byte_limit);
  // Each arena of malloc sets 64 MiB of address space aside, and every thread would like its own.
  if (std::any_of(limits.all.begin(), limits.all.end(),
                  [](const MemoryLimit& limit) { return limit.source == "RLIMIT_AS"; }))
    ::mallopt(M_ARENA_MAX, 2);
  // Limits on address space count whole stacks: of workers, of as many threads that compute (or
  // that the loader is measured against) and a few.
  return MemoryBudget::make(
      {.byte_limit = byte_limit,
       .base_bytes = limits.own_resident + growth,
       .address_space_growth = kStack * (2 * std::max(available_cpus(), workers) + 4)});
}

std::shared_ptr<MemoryBudget> make_budget(const Config& config) {
  const bool automatic = config.memory.limit == "auto";
  return make_budget(automatic ? 0 : parse_bytes(config.memory.limit, "memory.limit"),
                     Growth::kNetwork,
                     static_cast<int>(count_or_auto(config.loader.workers, "loader.workers")));
}

std::string cache_directory(const Config& config) {
  return config.loader.cache_dir != "auto" ? config.loader.cache_dir : user_cache_directory();
}

std::string data_identity(const Config& config) {
  std::error_code ignored;
  const auto path = std::filesystem::absolute(config.data.path, ignored).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).string();  // "photos/" is "photos"
}

void note_use(const Config& config, Split split, const Transform& transform,
              const LoaderOptions& options) {
  const CacheMode mode = parse_cache_mode(config.loader.cache, "loader.cache");
  if (mode == CacheMode::None || mode == CacheMode::Ram) return;
  note_cache_use(cache_directory(config), {.data = data_identity(config),
                                           .split = std::string(split_name(split)),
                                           .recipe = cache_recipe(transform, options)});
}

std::string decide_cache(Config& config, const Dataset& dataset, const Transform& transform,
                         std::int64_t batch, const std::shared_ptr<MemoryBudget>& budget) {
  const bool mode_is_open = config.loader.cache == "auto";
  const bool content_is_open = config.loader.content == "auto";
  if (!mode_is_open && (!content_is_open || config.loader.cache == "none")) {
    if (content_is_open) config.loader.content = "decoded";
    return "";
  }
  CacheWish wish;
  if (!mode_is_open) wish.mode = parse_cache_mode(config.loader.cache, "loader.cache");
  if (!content_is_open)
    wish.content =
        config.loader.content == "encoded" ? CacheContent::Encoded : CacheContent::Decoded;
  if (config.loader.cache_size != "auto")
    wish.byte_limit = parse_bytes(config.loader.cache_size, "loader.cache_size");
  wish.directory = cache_directory(config);
  const CacheMeasurement measured = measure_for_cache(
      dataset, transform, common_loader(config, batch, nullptr, budget), *budget, wish);
  const CacheChoice choice = choose_cache(measured, wish);
  config.loader.cache = to_string(choice.mode);
  config.loader.content = choice.content == CacheContent::Encoded ? "encoded" : "decoded";
  return "cache: " + choice.why;
}

std::shared_ptr<Store> make_cache(const Config& config, std::shared_ptr<MemoryBudget> budget) {
  CacheOptions options;
  options.mode = parse_cache_mode(config.loader.cache, "loader.cache");
  if (options.mode == CacheMode::None) return nullptr;
  if (config.loader.cache_size != "auto") {
    options.byte_limit = parse_bytes(config.loader.cache_size, "loader.cache_size");
  }
  options.directory = cache_directory(config);
  options.budget = std::move(budget);
  options.share = parse_cache_share(config.loader.cache_share, "loader.cache_share");
  // Processes that train on the same images at the same size keep the same pixels.
  options.share_name = data_identity(config) + "@" + std::to_string(config.train.img);
  return make_store(options);
}

std::shared_ptr<const Transform> training_transform(const Config& config, Task task) {
  const int size = static_cast<int>(config.train.img);
  const AugmentSettings& a = config.augment;
  if (task == Task::Classify) {
    return make_classification_transform(size, {.min_area = a.min_area,
                                                .fliplr = a.fliplr,
                                                .flipud = a.flipud,
                                                .hsv_h = a.hsv_h,
                                                .hsv_s = a.hsv_s,
                                                .hsv_v = a.hsv_v});
  }
  const std::int64_t mosaic_epochs =
      a.close_mosaic > 0 ? std::max<std::int64_t>(config.train.epochs - a.close_mosaic, 0) : -1;
  return make_detection_transform(size, {.hsv_h = a.hsv_h,
                                         .hsv_s = a.hsv_s,
                                         .hsv_v = a.hsv_v,
                                         .degrees = a.degrees,
                                         .translate = a.translate,
                                         .scale = a.scale,
                                         .shear = a.shear,
                                         .perspective = a.perspective,
                                         .flipud = a.flipud,
                                         .fliplr = a.fliplr,
                                         .mosaic = a.mosaic,
                                         .mosaic9 = a.mosaic9,
                                         .mixup = a.mixup,
                                         .copy_paste = a.copy_paste,
                                         .mosaic_epochs = mosaic_epochs});
}

std::shared_ptr<const Transform> evaluation_transform(const Config& config, Task task) {
  const int size = static_cast<int>(config.train.img);
  return task == Task::Classify ? make_center_crop_transform(size)
                                : make_letterbox_transform(size, size);
}

LoaderOptions training_loader(const Config& config, const Dataset& dataset, std::int64_t batch,
                              std::shared_ptr<Store> cache, std::shared_ptr<MemoryBudget> budget) {
  LoaderOptions options = common_loader(config, batch, std::move(cache), std::move(budget));
  if (config.data.class_weighted) {
    options.sampler =
        make_weighted_sampler(balanced_weights(dataset), dataset.size(), options.seed);
  }
  options.partners = config.loader.partners == "uniform" ? Partners::Uniform : Partners::Window;
  options.window = static_cast<int>(config.loader.window);
  options.lanes = static_cast<int>(config.loader.lanes);
  return options;
}

LoaderOptions evaluation_loader(const Config& config, std::int64_t batch,
                                std::shared_ptr<Store> cache,
                                std::shared_ptr<MemoryBudget> budget) {
  LoaderOptions options = common_loader(config, batch, std::move(cache), std::move(budget));
  options.order = Order::Sequential;
  return options;
}

int compute_threads(const Config& config) {
  const std::int64_t threads = count_or_auto(config.train.threads, "train.threads");
  return threads > 0 ? static_cast<int>(threads) : available_cpus();
}

}  // namespace brim::cli
