#include "training.h"

#include <fmt/format.h>

#include <algorithm>

#include "brim/dataloader/torch/device.h"
#include "brim/train/anchors.h"
#include "brim/train/classification_loss.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"
#include "brim/train/schedule.h"
#include "brim/train/weights.h"
#include "experiment.h"
#include "tuning.h"

namespace brim::cli {

void prepare_compute(const Config& config, const std::shared_ptr<MemoryBudget>& budget) {
  if (config.memory.allocator == "pool") {
    const auto& limits = budget->limits().all;
    const bool scarce = std::any_of(limits.begin(), limits.end(), [](const MemoryLimit& limit) {
      return limit.source == "RLIMIT_AS";
    });
    // Where address space is limited the pool leaves some of it to everything else.
    install_cpu_allocator(
        {.virtual_bytes = scarce ? budget->available() / 4 * 3 : 0, .budget = budget});
  }
  at::set_num_threads(compute_threads(config));
  torch::manual_seed(static_cast<std::uint64_t>(config.train.seed));
}

namespace {

constexpr std::int64_t kNominalBatch = 64;  // YOLOv5's

/// SGD's momentum averages over 16 optimiser steps, and warm-up takes its own: a run needs many
/// times that. It gets 1000 of them where steps of as few as 16 images can give them.
std::int64_t nominal_batch_of(std::int64_t images, std::int64_t batch) {
  constexpr std::int64_t kSmallest = 16, kSteps = 1000;
  std::int64_t nominal = kNominalBatch;
  while (nominal > kSmallest && images < kSteps * nominal) nominal /= 2;
  return std::max(nominal, std::min(batch, kNominalBatch));
}

}  // namespace

void decide_by_length(Config& config, std::int64_t images) {
  // yolov5s at 640 on an H200: 8 s for each size of batch, which then takes 48.1 instead of 50.5
  // ms.
  constexpr std::int64_t kSearchPaysFrom = 500'000;
  TrainSettings& train = config.train;
  const std::int64_t in_all = images * train.epochs;
  if (train.cudnn_search == "auto")
    train.cudnn_search = !train.multi_scale && in_all > kSearchPaysFrom ? "on" : "off";
  if (count_or_auto(train.nominal_batch, "train.nominal_batch") == kAuto)
    train.nominal_batch = std::to_string(nominal_batch_of(in_all, plain_batch(config)));
}

std::int64_t nominal_batch(const TrainSettings& train) {
  const std::int64_t batch = count_or_auto(train.nominal_batch, "train.nominal_batch");
  if (batch == 0)
    throw Error("expected at least one image, found 0", {.key = "train.nominal_batch"});
  return batch == kAuto ? kNominalBatch : batch;
}

void prepare_device(const Config& config) {
  const torch::Device device = device_of(config);
  if (device.is_cpu()) return;
  at::globalContext().setBenchmarkCuDNN(config.train.cudnn_search == "on");
  if (config.memory.device_limit != "auto")
    set_device_limit(device, parse_bytes(config.memory.device_limit, "memory.device_limit"));
}

torch::Device device_of(const Config& config) {
  torch::Device device = torch::kCPU;
  try {
    device = torch::Device(config.train.device);
  } catch (const c10::Error&) {
    throw Error("expected cpu, cuda or cuda:N, found '" + config.train.device + "'",
                {.key = "train.device"});
  }
  require_device(device, "train.device");
  return device;
}

std::vector<std::string> frozen_prefixes(const Network& network, std::int64_t layers) {
  const std::vector<std::string> of_resnet{"conv1.",  "bn1.",    "layer1.", "layer2.",
                                           "layer3.", "layer4.", "fc."};
  const bool resnet = network.name().starts_with("resnet");
  const std::vector<std::string> names = network.named_parameters().keys();
  std::vector<std::string> prefixes;
  std::size_t frozen = 0;
  for (std::int64_t i = 0; i < layers && frozen < names.size(); ++i) {
    const std::string prefix =
        resnet ? of_resnet.at(static_cast<std::size_t>(i)) : fmt::format("model.{}.", i);
    const auto of_layer = std::count_if(names.begin(), names.end(), [&](const std::string& name) {
      return name.starts_with(prefix);
    });
    frozen += static_cast<std::size_t>(of_layer);
    if (of_layer > 0) prefixes.push_back(prefix);  // others have nothing to freeze
  }
  if (frozen == names.size())
    throw Error("nothing is left to train", {.key = "model.freeze"},
                "freeze fewer layers; the head is the last");
  return prefixes;
}

std::string class_difference(const std::vector<std::string>& a, const std::string& name_of_a,
                             const std::vector<std::string>& b, const std::string& name_of_b) {
  const auto text = [](const std::vector<std::string>& names, std::size_t i) {
    return i < names.size() ? "'" + names[i] + "'" : std::string("none");
  };
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i)
    if (text(a, i) != text(b, i))
      return fmt::format("class {} is {} in {} and {} in {}", i, text(a, i), name_of_a, text(b, i),
                         name_of_b);
  return "";
}

namespace {

bool has_labels(const Dataset& dataset) {
  if (dataset.task() == Task::Classify) return true;
  RecordScratch scratch;
  for (std::int64_t i = 0; i < dataset.size(); ++i)
    if (!dataset.record(i, scratch).boxes.empty()) return true;
  return false;
}

}  // namespace

void require_labels(const Dataset& dataset, const Config& config) {
  if (!has_labels(dataset))
    throw Error(
        "no image has a label, so there is nothing to learn", {.file = config.data.path},
        "`brim inspect data` shows what was found; YOLO's labels lie in a folder 'labels' beside "
        "'images'");
}

void warn_of_no_labels(const Dataset& dataset, Console& console) {
  if (!has_labels(dataset))
    console.warn("no image of the validation data has a label: its figures are all 0");
}

void show_warnings(const Dataset& dataset, Console& console) {
  constexpr std::size_t kShown = 20;
  const auto& warnings = dataset.warnings();
  for (std::size_t i = 0; i < std::min(kShown, warnings.size()); ++i) {
    console.warn(
        Error(warnings[i].reason, {.file = warnings[i].file, .line = warnings[i].line}).what());
  }
  if (warnings.size() > kShown) {
    console.warn(
        fmt::format("... and {} more; `brim inspect data` shows all", warnings.size() - kShown));
  }
}

namespace {

void transfer_weights(Network& network, const std::string& path, Console& console) {
  const TransferReport report = load_weights(network, path);
  console.print(fmt::format("{}: transferred {}", path, report.summary()));
}

void check_network_anchors(const Config& config, Detector& detector, const Dataset& dataset,
                           Console& console) {
  const int size = static_cast<int>(config.train.img);
  const auto labels = label_sizes(dataset, size);
  if (labels.empty()) return;
  const AnchorCheck check = check_anchors(
      detector, labels,
      {.anchor_t = config.loss.anchor_t, .seed = static_cast<std::uint64_t>(config.train.seed)});
  console.print(
      check.replaced
          ? fmt::format("anchors reached {:.1f}% of the labels; refitted ones reach {:.1f}%",
                        100 * check.before.recall, 100 * check.after.recall)
          : fmt::format("anchors reach {:.1f}% of the labels", 100 * check.before.recall));
}

}  // namespace

void check_size(const Config& config, const Network& network) {
  const std::int64_t stride = network.max_stride(), size = config.train.img;
  if (network.task() != Task::Detect || size % stride == 0) return;
  throw Error(fmt::format("{} needs sides that are multiples of {}, found {}", network.name(),
                          stride, size),
              {.key = "train.img"},
              fmt::format("the next one is {}", (size / stride + 1) * stride));
}

std::shared_ptr<Network> build_network(const Config& config, const Dataset& dataset, Task task,
                                       Console& console) {
  auto network = make_network(
      {.model = config.model.name, .classes = static_cast<int>(dataset.class_names().size())});
  if (network->task() != task) {
    throw Error(fmt::format("{} is a {}, but the data is for {}", network->name(),
                            network->task() == Task::Detect ? "detector" : "classifier",
                            task == Task::Detect ? "detection" : "classification"),
                {.key = "model.name"},
                task == Task::Detect ? "use --model yolov5n" : "use --model resnet18");
  }
  check_size(config, *network);
  auto* detector = dynamic_cast<Detector*>(network.get());
  if (!config.model.weights.empty()) transfer_weights(*network, config.model.weights, console);
  if (detector != nullptr && config.model.auto_anchor)
    check_network_anchors(config, *detector, dataset, console);
  return network;
}

std::shared_ptr<Objective> build_objective(const Config& config, Network& network) {
  const LossSettings& loss = config.loss;
  if (const auto* detector = dynamic_cast<const Detector*>(&network)) {
    return std::make_shared<DetectionLoss>(
        detector->anchors(), network.classes(),
        DetectionLossOptions{.box = loss.box,
                             .cls = loss.cls,
                             .obj = loss.obj,
                             .cls_pw = loss.cls_pw,
                             .obj_pw = loss.obj_pw,
                             .anchor_t = loss.anchor_t,
                             .fl_gamma = loss.fl_gamma,
                             .label_smoothing = loss.label_smoothing,
                             .image_size = static_cast<int>(config.train.img)});
  }
  return std::make_shared<ClassificationLoss>(
      ClassificationLossOptions{.label_smoothing = loss.label_smoothing});
}

double warmup_bias_rate(const TrainSettings& train) {
  const bool adam = parse_optimizer(train.optimizer, "train.optimizer") != OptimizerKind::Sgd;
  return number_or_auto(train.warmup_bias_lr, "train.warmup_bias_lr", adam ? train.lr0 : 0.1);
}

Decay decay_of(const TrainSettings& train) {
  if (train.decay == "step") return Decay::PerStep;
  return train.decay == "epoch_late" ? Decay::PerEpochLate : Decay::PerEpoch;
}

TrainOptions training_options(const Config& config, const Network& network, const Dataset& dataset,
                              std::uint64_t fingerprint, std::int64_t batch) {
  const TrainSettings& train = config.train;
  TrainOptions options;
  options.epochs = static_cast<int>(train.epochs);
  options.max_steps = train.max_steps;
  options.batch_size = batch;
  options.nominal_batch = nominal_batch(train);
  options.optimizer = {.kind = parse_optimizer(train.optimizer, "train.optimizer"),
                       .momentum = train.momentum,
                       .weight_decay = train.weight_decay};
  options.schedule = make_schedule({.lr0 = train.lr0,
                                    .lrf = train.lrf,
                                    .momentum = train.momentum,
                                    .warmup_epochs = train.warmup_epochs,
                                    .warmup_momentum = train.warmup_momentum,
                                    .warmup_bias_lr = warmup_bias_rate(train),
                                    .cosine = train.cosine,
                                    .decay = decay_of(train),
                                    .epochs = train.epochs,
                                    .batch_size = batch,
                                    .nominal_batch = nominal_batch(train)});
  options.ema.decay = train.ema ? options.ema.decay : 0;
  options.precise_bn = train.precise_bn;
  options.clip_norm = train.clip_norm;
  options.precision = parse_precision(train.precision, "train.precision");
  options.activation_checkpointing = parse_activation_checkpointing(
      train.activation_checkpointing, "train.activation_checkpointing");
  options.device = device_of(config);
  options.multi_scale = train.multi_scale ? 0.5 : 0.0;
  options.freeze = frozen_prefixes(network, config.model.freeze);
  options.evaluate_every = train.val ? 1 : 0;
  options.patience = static_cast<int>(train.patience);
  options.save_period = static_cast<int>(train.save_period);
  options.checkpoint_minutes = train.checkpoint_minutes;
  options.seed = static_cast<std::uint64_t>(train.seed);
  options.data_id =
      fmt::format("{:016x} seed {} batch {} img {}", fingerprint, train.seed, batch, train.img);
  options.class_names = dataset.class_names();
  return options;
}

}  // namespace brim::cli
