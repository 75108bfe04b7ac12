#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <vector>

#include "brim/train/network.h"

namespace brim::detail {

/// The anchor-based head: a 1x1 convolution per level. Names: anchors (buffer), m.0 ...
class DetectHead : public torch::nn::Module {
 public:
  /// `anchors`: [levels, anchors per level, 2] in pixels. Biases start at the published priors: 8
  /// objects per 640-pixel image, classes at 0.6 / (C - 0.99999).
  DetectHead(int classes, const torch::Tensor& anchors, std::vector<double> strides,
             const std::vector<std::int64_t>& channels);
  NetworkOutput forward(const std::vector<torch::Tensor>& maps);

  const std::vector<double>& strides() const { return strides_; }
  torch::Tensor anchors;  ///< in units of the strides

 private:
  int values_;  ///< per box: 5 + classes
  std::vector<double> strides_;
  std::vector<torch::nn::Conv2d> m_;

  /// Sigmoid of one raw level, decoded to pixels: xy = (2s - 0.5 + cell) stride, wh = (2s)^2
  /// anchor.
  void decode(const torch::Tensor& raw, std::size_t level, torch::Tensor out) const;
};

}  // namespace brim::detail
