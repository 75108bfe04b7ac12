#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <vector>

#include "brim/train/detection_loss.h"

namespace brim::detail {

/// Everything the two implementations of the detection objective need, decided.
struct DetectionLossPlan {
  torch::Tensor anchors{};  ///< [levels, anchors, 2], float, CPU
  int classes = 0;
  double box = 0, cls = 0;
  std::vector<double> obj{};  ///< per level, balance included
  double cls_pw = 1, obj_pw = 1, anchor_t = 4, fl_gamma = 0;
  float positive = 1, negative = 0;  ///< class targets after label smoothing
  /// Factor per level on what is averaged over matches, where a part of a batch stands for its
  /// share of the whole; empty: 1.
  std::vector<double> match_share{};
  double share(std::size_t level) const { return match_share.empty() ? 1.0 : match_share[level]; }
};

/// Small numbers of the objective as tensors on a device, copied there once per device and sizes: a
/// copy makes the host wait until the device has caught up.
struct DetectionConstants {
  torch::Tensor anchors{};  ///< [levels, anchors, 2]
  torch::Tensor grids{};    ///< [levels, 2]: width, height
  torch::Tensor shifts{};   ///< [5, 2]: where a label's cell and its neighbours are looked for
  std::vector<std::int64_t> sizes{};

  /// Makes them those of `levels`, as `options` say.
  void fit(const DetectionLossPlan& plan, const std::vector<torch::Tensor>& levels,
           const torch::TensorOptions& options);
};

/// Weight of positives and negatives in the focal loss (Lin et al. 2017).
inline constexpr double kFocalAlpha = 0.25;

LossResult fused_detection_loss(const DetectionLossPlan& plan,
                                const std::vector<torch::Tensor>& levels,
                                const torch::Tensor& targets);
LossResult tensor_detection_loss(const DetectionLossPlan& plan,
                                 const std::vector<torch::Tensor>& levels,
                                 const torch::Tensor& targets, DetectionConstants& constants);

}  // namespace brim::detail
