#include "account.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "brim/cache/memory_budget.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"
#include "experiment.h"
#include "training.h"

namespace brim::cli {
namespace {

using autotune::MemoryAccount;

constexpr std::int64_t kSmallSide = 128, kSmallBatch = 1;
constexpr std::size_t kMostRemedies = 3;
constexpr std::int64_t kMostPixels = std::int64_t{16} * 320 * 320;  // measured as asked up to here

constexpr std::int64_t kPlenty = std::int64_t{4} << 30;  // for small steps of any model

/// What is refused is larger than its budget: the pool does without while that is measured.
void lift_pool_limit() {
  if (cpu_allocator_installed()) install_cpu_allocator();
}

MemoryAccount measure(const Config& config, int classes, std::int64_t boxes, std::int64_t side,
                      std::int64_t batch) {
  Config probed = config;
  probed.train.img = side;
  return autotune::account_training(
      [&]() -> autotune::ProbeSubject {
        const auto network = make_network({.model = config.model.name, .classes = classes});
        return {network, build_objective(probed, *network), probe_options(probed, *network, boxes)};
      },
      batch);
}

/// What this process may still take, whatever budget the user gives it.
std::int64_t room_here() {
  const MemoryLimits limits = read_memory_limits();
  return limits.effective - limits.own_private;
}

/// Accounts that follow from steps on few small images, each measured once: image sizes share what
/// small images take.
class Estimates {
 public:
  Estimates(int classes, std::int64_t boxes) : classes_(classes), boxes_(boxes) {}

  /// Of `batch` images of `config`, from images with sides of `small` pixels.
  MemoryAccount of(const Config& config, std::int64_t small, std::int64_t batch) {
    const std::string key = fmt::format("{} {} {} {}", config.model.name, config.train.precision,
                                        config.train.activation_checkpointing, small);
    if (!known_.contains(key))
      known_.emplace(key, std::pair{measure(config, classes_, boxes_, small, kSmallBatch),
                                    measure(config, classes_, boxes_, small, 2 * kSmallBatch)});
    const auto& [fewer, more] = known_.at(key);
    return scale_account(fewer, more, config.train.img, batch);
  }
  /// Empty where this machine or control group has no room for a step on small images.
  std::optional<MemoryAccount> of_one(const Config& config) {
    const std::int64_t room = room_here();
    if (room > kPlenty) lift_pool_limit();
    if (small_step(config) > room) return std::nullopt;
    lift_pool_limit();
    return of(config, std::min(config.train.img, kSmallSide), 1);
  }

 private:
  /// Built once for each model: without the pool's limit a large one would be too much.
  std::int64_t small_step(const Config& config) {
    const auto [known, is_new] = small_steps_.try_emplace(config.model.name, INT64_MAX);
    if (is_new) known->second = bytes_of_small_step(config, classes_).value_or(INT64_MAX);
    return known->second;
  }

  const int classes_;
  const std::int64_t boxes_;
  std::map<std::string, std::int64_t> small_steps_;
  std::map<std::string, std::pair<MemoryAccount, MemoryAccount>> known_;
};

/// The next smaller models of the same family, largest first.
std::vector<std::string> smaller_models(const std::string& name) {
  static const std::vector<std::vector<std::string>> kFamilies{
      {"yolov5x", "yolov5l", "yolov5m", "yolov5s", "yolov5n"},
      {"yolov5x6", "yolov5l6", "yolov5m6", "yolov5s6", "yolov5n6"},
      {"resnet101", "resnet50", "resnet34", "resnet18"}};
  for (const auto& family : kFamilies) {
    const auto found = std::find(family.begin(), family.end(), name);
    if (found != family.end()) return {found + 1, family.end()};
  }
  return {};
}

std::vector<std::pair<std::string, std::int64_t>> parts_of(const MemoryAccount& a) {
  return {{"parameters", a.parameters},   {"buffers", a.buffers},     {"gradients", a.gradients},
          {"optimiser", a.optimizer},     {"moving average", a.ema},  {"input", a.input},
          {"activations", a.activations}, {"workspace", a.workspace}, {"gaps", a.gaps},
          {"loader", a.loader},           {"runtime", a.runtime}};
}

}  // namespace

autotune::TrainingProbeOptions probe_options(const Config& config, const Network& network,
                                             std::int64_t boxes) {
  autotune::TrainingProbeOptions options;
  options.image_size = config.train.img;
  options.boxes_per_image = boxes;
  options.train.optimizer.kind = parse_optimizer(config.train.optimizer, "train.optimizer");
  options.train.clip_norm = config.train.clip_norm;
  options.train.precision = parse_precision(config.train.precision, "train.precision");
  options.train.device = device_of(config);
  options.train.freeze = frozen_prefixes(network, config.model.freeze);
  if (!config.train.ema) options.train.ema.decay = 0;
  // A probe says what does not fit; it does not look for a way out.
  options.train.activation_checkpointing = config.train.activation_checkpointing == "on"
                                               ? ActivationCheckpointing::On
                                               : ActivationCheckpointing::Off;
  return options;
}

std::optional<std::int64_t> bytes_of_small_step(const Config& config, int classes) {
  constexpr std::int64_t kAtWork = std::int64_t{96} << 20;  // activations, oneDNN and its code
  // Weights, gradients, the average, and one or two states of the optimiser.
  const int copies = config.train.optimizer == "sgd" ? 4 : 5;
  std::int64_t bytes = 0;
  try {
    const auto network = make_network({.model = config.model.name, .classes = classes});
    for (const torch::Tensor& parameter : network->parameters())
      bytes += static_cast<std::int64_t>(parameter.nbytes());
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
    return std::nullopt;
  }
  return copies * bytes + kAtWork;
}

MemoryAccount account_of(const Config& config, int classes, std::int64_t boxes,
                         std::int64_t batch) {
  const std::int64_t side = config.train.img;
  if (batch * side * side <= kMostPixels) return measure(config, classes, boxes, side, batch);
  // About half the side, and a multiple of every network's stride (64 for those with four levels).
  const std::int64_t small = std::min(side, std::max<std::int64_t>(kSmallSide, side / 128 * 64));
  return Estimates(classes, boxes).of(config, small, batch);
}

std::optional<MemoryAccount> account_of_one(const Config& config, int classes, std::int64_t boxes) {
  return Estimates(classes, boxes).of_one(config);
}

std::string account_table(const MemoryAccount& account, std::size_t layers) {
  std::vector<std::vector<std::string>> rows{{"part", "bytes", "share"}};
  const auto total = static_cast<double>(std::max<std::int64_t>(1, account.total()));
  const auto row = [&](const std::string& name, std::int64_t bytes) {
    rows.push_back({name, format_bytes(bytes),
                    fmt::format("{:.1f}%", 100 * static_cast<double>(bytes) / total)});
  };
  for (const auto& [name, bytes] : parts_of(account)) {
    row(name, bytes);
    if (name != "activations") continue;
    auto largest = account.layers;
    std::stable_sort(largest.begin(), largest.end(),
                     [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    largest.resize(std::min(layers, largest.size()));
    for (const auto& layer : account.layers) {
      const bool listed = std::any_of(largest.begin(), largest.end(),
                                      [&](const auto& l) { return l.name == layer.name; });
      if (listed) row("  " + layer.name, layer.bytes);
    }
  }
  row("total", account.total());
  return format_table(rows);
}

std::string account_json(const MemoryAccount& account) {
  nlohmann::json layers = nlohmann::json::array(), parts;
  for (const auto& layer : account.layers)
    layers.push_back({{"name", layer.name}, {"bytes", layer.bytes}});
  for (const auto& [name, bytes] : parts_of(account)) parts[name] = bytes;
  return nlohmann::json({{"batch", account.batch},
                         {"image_size", account.image_size},
                         {"parts", parts},
                         {"layers", layers},
                         {"total", account.total()}})
      .dump(2);
}

namespace {

/// One change and what one image would then take in all, loader and runtime included.
struct Remedy {
  std::string change;  ///< "train.img=320"
  std::int64_t bytes = 0;
};

/// The changes of image size, model and precision that would help most, the largest effect first;
/// `now` is what there is without any.
std::vector<Remedy> remedies(const Config& config, Estimates& estimates, const autotune::Goal& goal,
                             std::int64_t now) {
  constexpr std::int64_t kUnknown = INT64_MAX;
  std::vector<Remedy> all;
  const auto total_of = [&](const Config& changed) {
    std::optional<MemoryAccount> known = estimates.of_one(changed);
    if (!known) return kUnknown;
    MemoryAccount& account = *known;
    // The loader's share follows the image size.
    const double pixels =
        static_cast<double>(changed.train.img) / static_cast<double>(config.train.img);
    account.loader =
        static_cast<std::int64_t>(static_cast<double>(goal.loader_bytes(1)) * pixels * pixels);
    return account.total();
  };
  const auto allowed = static_cast<std::int64_t>(goal.allowed_bytes());
  const std::int64_t stride = std::max<std::int64_t>(32, stride_of(config.model.name));
  // The largest of three quarters, half, ... of the size that fits; else the smallest.
  Remedy size;
  for (const std::int64_t eighths : {6, 4, 3, 2}) {
    Config changed = config;
    changed.train.img =
        std::max<std::int64_t>(64, config.train.img * eighths / 8 / stride * stride);
    if (changed.train.img >= config.train.img) continue;
    size = {fmt::format("train.img={}", changed.train.img), total_of(changed)};
    if (size.bytes <= allowed) break;
  }
  if (!size.change.empty()) all.push_back(size);
  Remedy model;
  for (const std::string& name : smaller_models(config.model.name)) {
    Config changed = config;
    changed.model.name = name;
    model = {"model.name=" + name, total_of(changed)};
    if (model.bytes <= allowed) break;
  }
  if (!model.change.empty()) all.push_back(model);
  if (resolve_precision(parse_precision(config.train.precision), device_of(config)) ==
      Precision::Fp32) {
    Config changed = config;
    changed.train.precision = "bf16";
    all.push_back({"train.precision=bf16", total_of(changed)});
  }
  if (config.train.activation_checkpointing == "off") {
    Config changed = config;
    changed.train.activation_checkpointing = "on";
    all.push_back({"train.activation_checkpointing=on", total_of(changed)});
  }
  std::erase_if(all, [&](const Remedy& remedy) { return remedy.bytes >= now; });
  std::stable_sort(all.begin(), all.end(),
                   [](const Remedy& a, const Remedy& b) { return a.bytes < b.bytes; });
  if (all.size() > kMostRemedies) all.resize(kMostRemedies);
  return all;
}

}  // namespace

void refuse_budget(const Config& wished, int classes, std::int64_t boxes,
                   const autotune::Goal& goal, const std::string& found) {
  Config config = wished;
  const bool recomputed = wished.train.activation_checkpointing != "off";
  if (recomputed) config.train.activation_checkpointing = "on";  // auto has tried it
  Estimates estimates(classes, boxes);
  std::string message = found;
  std::int64_t now = INT64_MAX;
  if (std::optional<MemoryAccount> account = estimates.of_one(config)) {
    account->loader = goal.loader_bytes(1);
    now = account->total();
    message += std::string("\none image takes about") +
               (recomputed ? ", activations recomputed:\n" : ":\n") + account_table(*account, 0);
  }
  std::string hint;
  for (const Remedy& remedy : remedies(config, estimates, goal, now))
    hint += fmt::format("{}{} would take {}", hint.empty() ? "" : "; ", remedy.change,
                        format_bytes(remedy.bytes));
  if (hint.empty()) hint = "lower train.img, choose a smaller model, or use train.precision=bf16";
  while (!message.empty() && message.back() == '\n') message.pop_back();
  throw Error(message, {.key = "memory.limit"}, hint);
}

}  // namespace brim::cli
