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
    rows.push_back(row(names.at(static_cast<std::size_t>(c.class_id)), c.labels, c.precision,
                       c.recall, c.ap50, c.ap50_95));
  }
  return rows;
}

std::vector<std::vector<std::string>> classification_rows(const ClassificationScores& scores,
                                                          const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> rows{{"class", "images", "top1", "top5"}};
  rows.push_back({"all", std::to_string(scores.images), fmt::format("{:.4f}", scores.top1),
                  fmt::format("{:.4f}", scores.top5)});
  for (std::size_t i = 0; i < scores.class_top1.size(); ++i) {
    rows.push_back({names.at(i), std::to_string(scores.class_images[i]),
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
      group_(std::move(group)) {
  LoaderOptions options = loader(config, training_batch, budget, group_->size());
  options.rank = group_->rank();
  options.slot_memory = pinned_memory(device_of(config));
  loader_ = std::make_unique<Loader>(data_, evaluation_transform(config, data_->task()), options);
}

void Evaluation::keep_pictures(const EvaluatedBatch& batch) {
  constexpr std::size_t kPictures = 16;
  if (labelled_.size() >= kPictures) return;
  const TensorBatch on_cpu = to_device(batch.batch, torch::kCPU);
  std::vector<Picture> pictures = pictures_of(on_cpu, kPictures);
  caption_classes(pictures, on_cpu, data_->class_names());
  const torch::Tensor best = batch.logits.defined()
                                 ? batch.logits.to(torch::kCPU, torch::kFloat).argmax(1)
                                 : torch::Tensor();
  for (std::size_t i = 0; i < pictures.size() && labelled_.size() < kPictures; ++i) {
    const SampleInfo& sample = batch.batch.samples.at(i);
    if (sample.replaced) continue;
    if (best.defined()) {
      const auto found =
          static_cast<std::size_t>(best[static_cast<std::int64_t>(i)].item<std::int64_t>());
      const std::string& name = data_->class_names().at(found);
      pictures[i].caption += pictures[i].caption == name ? ": right" : ": taken for " + name;
    } else {
      found_.push_back(shown_boxes(batch.detections[i], sample.placement));
    }
    labelled_.push_back(copy_picture(pictures[i]));
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
  labelled_.clear();
  found_.clear();
  EvaluateOptions options;
  options.nms = nms_;
  options.device = device;
  options.precision = resolve_precision(precision_, device);
  options.objective = objective;
  options.group = group_.get();
  options.on_batch = [this](const EvaluatedBatch& batch) { keep_pictures(batch); };
  result_ = evaluate(network, *source, options);
  return summarize(result_);
}

void Evaluation::draw(const std::string& folder) const {
  const auto& names = data_->class_names();
  if (result_.task == Task::Detect) {
    plot_curve(result_.detection, Curve::PrecisionByRecall, names, folder + "/PR_curve.png");
    plot_curve(result_.detection, Curve::F1, names, folder + "/F1_curve.png");
    plot_curve(result_.detection, Curve::Precision, names, folder + "/P_curve.png");
    plot_curve(result_.detection, Curve::Recall, names, folder + "/R_curve.png");
    if (!labelled_.empty())
      draw_comparison(views(labelled_), found_, names, folder + "/val_predictions.jpg");
  } else if (!labelled_.empty()) {
    draw_grid(views(labelled_), names, folder + "/val_predictions.jpg");
  }
  const MatrixPlot matrix = result_.confusion ? matrix_plot(*result_.confusion, names)
                                              : matrix_plot(result_.classification, names);
  if (matrix.size <= kMatrixClasses) plot_matrix(matrix, folder + "/confusion_matrix.png");
}

void Evaluation::print_table(Console& console) const {
  if (result_.task == Task::Detect) {
    console.print(format_table(detection_rows(result_.detection, data_->class_names())));
  } else {
    console.print(format_table(classification_rows(result_.classification, data_->class_names())));
  }
}

std::string Evaluation::to_json() const {
  json document;
  document["images"] = result_.images;
  for (const auto& [name, value] : summarize(result_).metrics) document["metrics"][name] = value;
  document["seconds"] = {{"forward", result_.forward_seconds},
                         {"nms", result_.nms_seconds},
                         {"wait", result_.wait_seconds}};
  const auto& names = data_->class_names();
  if (result_.task == Task::Detect) {
    for (const ClassScores& c : result_.detection.classes) {
      document["classes"].push_back({{"name", names.at(static_cast<std::size_t>(c.class_id))},
                                     {"labels", c.labels},
                                     {"P", c.precision},
                                     {"R", c.recall},
                                     {"mAP50", c.ap50},
                                     {"mAP50-95", c.ap50_95}});
    }
  } else {
    const ClassificationScores& scores = result_.classification;
    for (std::size_t i = 0; i < scores.class_top1.size(); ++i) {
      document["classes"].push_back({{"name", names.at(i)},
                                     {"images", scores.class_images[i]},
                                     {"top1", scores.class_top1[i]}});
    }
  }
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace brim::cli
