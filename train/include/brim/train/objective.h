#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <string>
#include <vector>

#include "brim/dataloader/torch/tensor_batch.h"
#include "brim/train/network.h"

namespace brim {

/// Loss of one micro-batch. `total` is what is differentiated: the sum over images of their share
/// (mean loss times images, as YOLOv5 does), so that accumulation adds up whatever the split.
struct LossResult {
  torch::Tensor total{};       ///< scalar, with graph
  torch::Tensor components{};  ///< detached, one value per name in Objective::component_names()
};

/// What a Network is trained for. Virtual: users bring their own.
class Objective {
 public:
  virtual ~Objective() = default;
  /// `output` of the Network on `batch` (whose tensors are on the same device).
  virtual LossResult loss(const NetworkOutput& output, const TensorBatch& batch) = 0;
  /// Loss of `part`, cut from `whole`, as a share of it: the gradients of all parts add up to that
  /// of `whole`. To be overridden where the loss averages over something that images do not have in
  /// equal numbers (matched labels). `components` are averages over the part's images.
  virtual LossResult partial_loss(const NetworkOutput& output, const TensorBatch& part,
                                  const TensorBatch& /*whole*/) {
    return loss(output, part);
  }
  virtual std::vector<std::string> component_names() const = 0;
};

}  // namespace brim
