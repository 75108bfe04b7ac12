#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "brim/train/batch_source.h"
#include "brim/train/classification_metrics.h"
#include "brim/train/detection_metrics.h"
#include "brim/train/network.h"
#include "brim/train/nms.h"
#include "brim/train/objective.h"
#include "brim/train/observer.h"
#include "brim/train/precision.h"
#include "brim/train/process_group.h"

namespace brim {

/// One evaluated batch, for those who draw or store it. Detections are in pixels of the original
/// images.
struct EvaluatedBatch {
  const TensorBatch& batch;
  std::span<const std::vector<Detection>> detections;  ///< per image
  torch::Tensor logits{};                              ///< classification
};

struct EvaluateOptions {
  torch::Device device = torch::kCPU;
  Precision precision = Precision::Fp32;  ///< resolved
  NmsOptions nms{.confidence = 0.001, .iou = 0.6, .multi_label = true};
  /// Ranks that evaluate together, each its share of the images (every R-th); all of them get the
  /// result of one process with all images. Null: this process alone.
  ProcessGroup* group = nullptr;
  Objective* objective = nullptr;  ///< where given, the losses on the validation set as well
  std::function<void(const EvaluatedBatch&)> on_batch{};
};

struct EvaluationResult {
  Task task = Task::Detect;
  std::int64_t images = 0;
  DetectionScores detection{};
  std::optional<ConfusionMatrix> confusion{};
  ClassificationScores classification{};
  std::vector<std::string> loss_names{};
  std::vector<double> losses{};  ///< means over images
  double seconds = 0;            ///< in all; the parts:
  double wait_seconds = 0, forward_seconds = 0, nms_seconds = 0;
};

/// Runs `network` (put into evaluation mode meanwhile) over one epoch of `batches`. Boxes are
/// mapped back to the original images through SampleInfo::placement before they are compared.
EvaluationResult evaluate(Network& network, BatchSource& batches,
                          const EvaluateOptions& options = {});

/// The numbers that results files and progress lines show: precision, recall, mAP_0.5,
/// mAP_0.5:0.95 (or top1, top5), then val losses where there are any.
EvaluationSummary summarize(const EvaluationResult& result);

}  // namespace brim
