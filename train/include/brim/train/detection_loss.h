#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brim/dataloader/batch.h"
#include "brim/train/objective.h"

namespace brim {
namespace detail {
struct DetectionLossPlan;
struct DetectionConstants;
}  // namespace detail

/// Settings of the detection objective under the names and defaults YOLOv5's `hyp` gives them.
/// Gains are those for 3 levels, 80 classes and 640 pixels; DetectionLoss scales them.
struct DetectionLossOptions {
  double box = 0.05, cls = 0.5, obj = 1.0;  ///< gains
  double cls_pw = 1.0, obj_pw = 1.0;        ///< weight of positives in the cross entropies
  double anchor_t = 4.0;                    ///< largest ratio of a side to its anchor
  double fl_gamma = 0.0;                    ///< focal loss exponent; 0: plain cross entropy
  double label_smoothing = 0.0;
  int image_size = 640;           ///< training size, pixels
  std::vector<double> balance{};  ///< objectness weight per level; empty: 4 1 0.4, 4 1 .25 .06 .02
};

/// One label that one anchor at one cell is trained towards.
struct TargetMatch {
  std::int32_t image = 0, anchor = 0, row = 0, column = 0, class_id = 0;
  float cx = 0, cy = 0, width = 0, height = 0;  ///< in cells, centre relative to the cell's corner
};

/// Matches labels to one level: to every anchor (`anchors`: width, height in cells, pair by pair)
/// whose sides differ by less than `anchor_t` times, at the cell of the centre and at the up to two
/// neighbours that are nearer than half a cell. Ordered by neighbour, anchor, label.
std::vector<TargetMatch> match_targets(std::span<const TargetRow> targets,
                                       std::span<const float> anchors, int grid_width,
                                       int grid_height, double anchor_t);

/// YOLOv5's objective: CIoU box loss, objectness cross entropy towards the (detached) CIoU, class
/// cross entropy. Where several labels claim one anchor of one cell, the last match sets the
/// objectness target. On CPUs a fused kernel with its own gradient; elsewhere tensor operations
/// without a host round trip. One per training; its calls must not overlap.
///
///   DetectionLoss objective(detector.anchors(), detector.classes(), {.image_size = 320});
///   objective.loss(network.forward(images), batch).total.backward();
class DetectionLoss : public Objective {
 public:
  enum class Path { Auto, Fused, Tensors };

  /// `anchors`: [levels, anchors, 2] in strides, as Detector::anchors() gives them.
  DetectionLoss(const torch::Tensor& anchors, int classes, DetectionLossOptions options = {},
                Path path = Path::Auto);

  /// Components are the scaled box, objectness and class parts; their sum times images is the
  /// total. Throws Error for a class id outside the classes, std::invalid_argument for levels that
  /// do not fit the anchors.
  LossResult loss(const NetworkOutput& output, const TensorBatch& batch) override;
  LossResult loss(const std::vector<torch::Tensor>& levels, const torch::Tensor& targets);
  LossResult partial_loss(const NetworkOutput& output, const TensorBatch& part,
                          const TensorBatch& whole) override;
  std::vector<std::string> component_names() const override;

 private:
  LossResult loss(const std::vector<torch::Tensor>& levels, const torch::Tensor& targets,
                  const detail::DetectionLossPlan& plan) const;

  torch::Tensor anchors_;
  int classes_;
  DetectionLossOptions options_;
  Path path_;
  std::shared_ptr<detail::DetectionConstants> constants_;  // of the device it was last used on
};

}  // namespace brim
