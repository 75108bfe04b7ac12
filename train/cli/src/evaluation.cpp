#include "evaluation.h"

#include <fmt/format.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "brim/dataloader/torch/device.h"
#include "brim/train/cpu_allocator.h"
#include "experiment.h"
#include "training.h"

namespace brim::cli {
namespace {

using nlohmann::json;

bool on_cpu(const Config& config) {
  return config.train.device == "cpu";
}

/// Larger batches keep a GPU busy; a CPU gains nothing from the memory that they take.
std::int64_t evaluation_batch(const Config& config, std::int64_t training_batch) {
  const std::int64_t batch = count_or_auto(config.val.batch, "val.batch");
  return batch > 0 ? batch : (on_cpu(config) ? 1 : 2) * training_batch;
}

std::vector<std::vector<std::string>> detection_rows(const DetectionScores& scores,
                                                     const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> rows{{"class", "labels", "P", "R", "mAP50", "mAP50-95"}};
  const auto row = [](const std::string& name, std::int64_t labels, double p, double r, double a50,
                      double a95) {
    return std::vector<std::string>{name,
                                    std::to_string(labels),
                                    fmt::format("{:.3f}", p),
                                    fmt::format("{:.3f}", r),
                                    fmt::format("{:.3f}", a50),
                                    fmt::format("{:.3f}", a95)};
  };
  rows.push_back(
      row("all", scores.labels, scores.precision, scores.recall, scores.map50, scores.map50_95));
  for (const ClassScores& c : scores.classes) {
    rows.push_back(
        row(class_name(names, c.class_id), c.labels, c.precision, c.recall, c.ap50, c.ap50_95));
  }
  return rows;
}

std::vector<std::vector<std::string>> classification_rows(const ClassificationScores& scores,
                                                          const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> rows{{"class", "images", "top1", "top5"}};
  rows.push_back({"all", std::to_string(scores.images), fmt::format("{:.4f}", scores.top1),
                  fmt::format("{:.4f}", scores.top5)});
  for (std::size_t i = 0; i < scores.class_top1.size(); ++i) {
    rows.push_back({class_name(names, static_cast<std::int64_t>(i)),
                    std::to_string(scores.class_images[i]),
                    fmt::format("{:.4f}", scores.class_top1[i]), ""});
  }
  return rows;
}

/// Detections that are worth showing, back from the original image into the sample.
std::vector<PictureBox> shown_boxes(std::span<const Detection> detections, const Placement& p) {
  constexpr float kShownConfidence = 0.25F;
  std::vector<PictureBox> boxes = picture_boxes(detections);
  std::erase_if(boxes, [](const PictureBox& box) { return box.confidence < kShownConfidence; });
  for (PictureBox& box : boxes) {
    box.box = {box.box.x1 * p.scale_x + p.pad_x, box.box.y1 * p.scale_y + p.pad_y,
               box.box.x2 * p.scale_x + p.pad_x, box.box.y2 * p.scale_y + p.pad_y};
  }
  return boxes;
}

}  // namespace

LoaderOptions Evaluation::loader(const Config& config, std::int64_t training_batch,
                                 const std::shared_ptr<MemoryBudget>& budget, int ranks) {
  const std::int64_t batch =
      std::max<std::int64_t>(1, evaluation_batch(config, training_batch) / ranks);
  LoaderOptions options = evaluation_loader(config, batch, nullptr, budget);
  // It stands beside the training's loader, and on a CPU one batch ahead is enough.
  if (options.prefetch_batches == kAuto && on_cpu(config)) options.prefetch_batches = 1;
  options.ranks = ranks;
  options.lanes = (options.lanes + ranks - 1) / ranks * ranks;
  return options;
}

Evaluation::Evaluation(const Config& config, std::shared_ptr<const Dataset> data,
                       std::int64_t training_batch, const std::shared_ptr<MemoryBudget>& budget,
                       std::shared_ptr<ProcessGroup> group)
    : data_(std::move(data)),
      nms_{.confidence = config.val.conf,
           .iou = config.val.iou,
           .max_detections = static_cast<int>(config.val.max_det),
           .multi_label = true},
      precision_(parse_precision(config.train.precision, "train.precision")),
      group_(std::move(group)),
      keeps_pictures_(config.output.plots && group_->rank() == 0) {
  LoaderOptions options = loader(config, training_batch, budget, group_->size());
  options.rank = group_->rank();
  options.slot_memory = pinned_memory(device_of(config));
  loader_ = std::make_unique<Loader>(data_, evaluation_transform(config, data_->task()), options);
}

void Evaluation::keep_pictures(const EvaluatedBatch& batch) {
  constexpr std::size_t kPictures = 16;
  constexpr int kSide = 480;
  auto& kept = outcome_->labelled;
  // Spread over all images: those of a class often stand together.
  const auto due = [&](const SampleInfo& sample) {
    return !sample.replaced && kept.size() < kPictures &&
           sample.index * static_cast<std::int64_t>(kPictures) >=
               static_cast<std::int64_t>(kept.size()) * data_->size();
  };
  const auto& samples = batch.batch.samples;
  if (!keeps_pictures_ || std::none_of(samples.begin(), samples.end(), due)) return;
  const TensorBatch on_cpu = to_device(batch.batch, torch::kCPU);
  std::vector<Picture> pictures = pictures_of(on_cpu, on_cpu.size());
  caption_classes(pictures, on_cpu, data_->class_names());
  torch::Tensor best;
  if (batch.logits.defined()) best = batch.logits.to(torch::kCPU, torch::kFloat).argmax(1);
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const SampleInfo& sample = samples.at(i);
    if (!due(sample)) continue;
    if (best.defined()) {
      const std::string name =
          class_name(data_->class_names(), best[static_cast<std::int64_t>(i)].item<std::int64_t>());
      pictures[i].caption += pictures[i].caption == name ? ": right" : ": taken for " + name;
    } else {
      const Picture found{pictures[i].pixels, shown_boxes(batch.detections[i], sample.placement),
                          ""};
      outcome_->found.push_back(keep_picture(found, kSide).boxes);
    }
    kept.push_back(keep_picture(pictures[i], kSide));
  }
}

void Evaluation::warn_of_unreadable(Console& console) const {
  constexpr std::size_t kShown = 5;
  const std::vector<QuarantineEntry> bad = loader_->quarantine();
  for (std::size_t i = 0; i < std::min(bad.size(), kShown); ++i)
    console.warn(bad[i].path + ": " + bad[i].reason);
  if (!bad.empty())
    console.warn(
        fmt::format("{} unreadable images of the validation data are in no figure", bad.size()));
}

EvaluationSummary Evaluation::summary(Network& network, torch::Device device,
                                      Objective* objective) {
  const AllocatorPhase phase("evaluation");
  const auto source = make_batch_source(*loader_, device);
  outcome_ = std::make_shared<Outcome>();
  EvaluateOptions options;
  options.nms = nms_;
  options.device = device;
  options.precision = resolve_precision(precision_, device);
  options.objective = objective;
  options.group = group_.get();
  options.on_batch = [this](const EvaluatedBatch& batch) { keep_pictures(batch); };
  outcome_->result = evaluate(network, *source, options);
  return summarize(outcome_->result);
}

bool Evaluation::show_best() {
  if (best_ != nullptr) outcome_ = best_;
  return best_ != nullptr;
}

void Evaluation::draw(const std::string& folder) const {
  const auto& names = data_->class_names();
  const EvaluationResult& result = outcome_->result;
  const std::vector<Picture> labelled = views(outcome_->labelled);
  const std::string pictures = folder + "/val_predictions.jpg";
  if (result.task == Task::Detect) {
    plot_curve(result.detection, Curve::PrecisionByRecall, names, folder + "/PR_curve.png");
    plot_curve(result.detection, Curve::F1, names, folder + "/F1_curve.png");
    plot_curve(result.detection, Curve::Precision, names, folder + "/P_curve.png");
    plot_curve(result.detection, Curve::Recall, names, folder + "/R_curve.png");
    if (!labelled.empty()) draw_comparison(labelled, outcome_->found, names, pictures);
  } else if (!labelled.empty()) {
    draw_grid(labelled, names, pictures);
  }
  const std::string matrix = folder + "/confusion_matrix.png";
  if (result.confusion && result.confusion->classes() <= kConfusionClasses)
    plot_matrix(matrix_plot(*result.confusion, names), matrix);
  if (!result.classification.confusion.empty())
    plot_matrix(matrix_plot(result.classification, names), matrix);
}

void Evaluation::print_table(Console& console) const {
  if (result().task == Task::Detect) {
    console.print(format_table(detection_rows(result().detection, data_->class_names())));
  } else {
    console.print(format_table(classification_rows(result().classification, data_->class_names())));
  }
}

std::string Evaluation::to_json() const {
  json document;
  document["images"] = result().images;
  for (const auto& [name, value] : summarize(result()).metrics) document["metrics"][name] = value;
  document["seconds"] = {{"forward", result().forward_seconds},
                         {"nms", result().nms_seconds},
                         {"wait", result().wait_seconds}};
  const auto& names = data_->class_names();
  if (result().task == Task::Detect) {
    for (const ClassScores& c : result().detection.classes) {
      document["classes"].push_back({{"name", class_name(names, c.class_id)},
                                     {"labels", c.labels},
                                     {"P", c.precision},
                                     {"R", c.recall},
                                     {"mAP50", c.ap50},
                                     {"mAP50-95", c.ap50_95}});
    }
  } else {
    const ClassificationScores& scores = result().classification;
    for (std::size_t i = 0; i < scores.class_top1.size(); ++i) {
      document["classes"].push_back({{"name", class_name(names, static_cast<std::int64_t>(i))},
                                     {"images", scores.class_images[i]},
                                     {"top1", scores.class_top1[i]}});
    }
  }
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace brim::cli
