#pragma once

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "brim/train/process_group.h"

namespace brim {

/// Ranks whose samples make up the statistics of batch norms together.
struct SharedStatistics {
  std::shared_ptr<ProcessGroup> group{};
  bool counts = true;  ///< false: this rank has no sample left and only keeps the others company
};

/// While it lives, batch norms of the calling thread that train share their statistics, where they
/// are called through batch_norm() or batch_norm_silu(). Null: they do not.
class SharedStatisticsScope {
 public:
  explicit SharedStatisticsScope(std::shared_ptr<const SharedStatistics> shared);
  ~SharedStatisticsScope();
  SharedStatisticsScope(const SharedStatisticsScope&) = delete;
  SharedStatisticsScope& operator=(const SharedStatisticsScope&) = delete;

 private:
  std::shared_ptr<const SharedStatistics> before_;
};

/// conv(input), as fast on one thread as on several: there LibTorch leaves 1x1 convolutions of
/// fewer than 16 images to the plain BLAS, which takes about twenty times as long as oneDNN.
torch::Tensor convolve(const torch::Tensor& input, const torch::nn::Conv2d& conv);

/// norm(input); while training, with the statistics of all ranks where they are shared: mean,
/// variance and their gradients are those of one process with the samples of all.
torch::Tensor batch_norm(const torch::Tensor& input, const torch::nn::BatchNorm2d& norm);

/// One operand of `batch_norm_silu`.
struct BatchNormSiluPart {
  torch::Tensor input{};  ///< [N, C, H, W]
  torch::nn::BatchNorm2d norm{nullptr};
  torch::Tensor residual{};  ///< undefined, or of the shape of `input`: added to the result
};

/// silu(norm(input)) + residual of each part, joined along the channels; running statistics are
/// updated as torch's batch norm does. On the CPU, float32 and channels-last, it is one fused
/// operation that keeps nothing but the inputs for the backward pass and writes straight into the
/// joined tensor; elsewhere the same from torch's operations.
torch::Tensor batch_norm_silu(const std::vector<BatchNormSiluPart>& parts);
torch::Tensor batch_norm_silu(const torch::Tensor& input, const torch::nn::BatchNorm2d& norm);

/// concat(upsample(small) by `scale` (nearest), large) along the channels.
torch::Tensor upsample_concat(const torch::Tensor& small, const torch::Tensor& large,
                              std::int64_t scale);

/// Every 4-dimensional parameter of `module` in channels-last strides.
void use_channels_last(torch::nn::Module& module);

/// A piece of a network: some feature maps in, one out.
class Layer : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const std::vector<torch::Tensor>& inputs) = 0;
};

struct ConvOptions {
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t padding = -1;  ///< -1: kernel / 2
  std::int64_t groups = 1;
};

/// Convolution without bias, batch norm (eps 1e-3, momentum 0.03), SiLU. Names: conv, bn.
class ConvLayer : public Layer {
 public:
  ConvLayer(std::int64_t in, std::int64_t out, const ConvOptions& options = {});
  torch::Tensor forward(const std::vector<torch::Tensor>& inputs) override {
    return forward(inputs[0]);
  }
  torch::Tensor forward(const torch::Tensor& x) { return batch_norm_silu(convolve(x, conv), bn); }
  /// What `forward` normalises, so that a caller can fuse the rest with its own next step.
  BatchNormSiluPart part(const torch::Tensor& x, const torch::Tensor& residual = {}) {
    return {convolve(x, conv), bn, residual};
  }
  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm2d bn{nullptr};
};

enum class Shortcut { None, Add };

/// 1x1 then 3x3 convolution, the input added where asked and the widths agree. Names: cv1, cv2.
class BottleneckLayer : public Layer {
 public:
  BottleneckLayer(std::int64_t in, std::int64_t out, Shortcut shortcut, double expansion = 0.5);
  torch::Tensor forward(const std::vector<torch::Tensor>& inputs) override {
    return batch_norm_silu({part(inputs[0])});
  }
  BatchNormSiluPart part(const torch::Tensor& x);

 private:
  std::shared_ptr<ConvLayer> cv1_;
  std::shared_ptr<ConvLayer> cv2_;
  bool add_ = false;
};

/// Cross-stage partial block: a chain of bottlenecks beside a 1x1 convolution, joined by a third.
/// Names: cv1, cv2, cv3, m.0 ...
class C3Layer : public Layer {
 public:
  C3Layer(std::int64_t in, std::int64_t out, std::int64_t repeats, Shortcut shortcut);
  torch::Tensor forward(const std::vector<torch::Tensor>& inputs) override;

 private:
  std::shared_ptr<ConvLayer> cv1_;
  std::shared_ptr<ConvLayer> cv2_;
  std::shared_ptr<ConvLayer> cv3_;
  std::vector<std::shared_ptr<BottleneckLayer>> m_;
};

/// Spatial pyramid pooling by three chained max-pools. Names: cv1, cv2.
class SppfLayer : public Layer {
 public:
  SppfLayer(std::int64_t in, std::int64_t out, std::int64_t kernel);
  torch::Tensor forward(const std::vector<torch::Tensor>& inputs) override;

 private:
  std::shared_ptr<ConvLayer> cv1_;
  std::shared_ptr<ConvLayer> cv2_;
  std::int64_t kernel_;
};

}  // namespace brim
