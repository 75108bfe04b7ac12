#include <torch/nn/functional/upsampling.h>

#include "brim/train/layers.h"

namespace brim {

using torch::Tensor;

void use_channels_last(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  for (Tensor& parameter : module.parameters())
    if (parameter.dim() == 4)
      parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
}

Tensor convolve(const Tensor& input, const torch::nn::Conv2d& conv) {
  const auto& options = conv->options;
  const auto* padding = get_if<torch::ExpandingArray<2>>(&options.padding());
  if (padding == nullptr || !input.is_cpu() || conv->weight.size(2) * conv->weight.size(3) != 1)
    return conv.ptr()->forward(input);
  // A single tap does not notice a dilation, but LibTorch gives dilated convolutions to oneDNN.
  return torch::conv2d(input, conv->weight, conv->bias, options.stride(), *padding, 2,
                       options.groups());
}

ConvLayer::ConvLayer(std::int64_t in, std::int64_t out, const ConvOptions& options) {
  const std::int64_t padding = options.padding < 0 ? options.kernel / 2 : options.padding;
  conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, options.kernel)
                                                       .stride(options.stride)
                                                       .padding(padding)
                                                       .groups(options.groups)
                                                       .bias(false)));
  bn = register_module(
      "bn", torch::nn::BatchNorm2d(torch::nn::BatchNorm2dOptions(out).eps(1e-3).momentum(0.03)));
}

BottleneckLayer::BottleneckLayer(std::int64_t in, std::int64_t out, Shortcut shortcut,
                                 double expansion)
    : add_(shortcut == Shortcut::Add && in == out) {
  const auto hidden = static_cast<std::int64_t>(static_cast<double>(out) * expansion);
  cv1_ = register_module("cv1", std::make_shared<ConvLayer>(in, hidden));
  cv2_ = register_module("cv2", std::make_shared<ConvLayer>(hidden, out, ConvOptions{.kernel = 3}));
}

BatchNormSiluPart BottleneckLayer::part(const Tensor& x) {
  return cv2_->part(cv1_->forward(x), add_ ? x : Tensor());
}

C3Layer::C3Layer(std::int64_t in, std::int64_t out, std::int64_t repeats, Shortcut shortcut) {
  const std::int64_t hidden = out / 2;
  cv1_ = register_module("cv1", std::make_shared<ConvLayer>(in, hidden));
  cv2_ = register_module("cv2", std::make_shared<ConvLayer>(in, hidden));
  cv3_ = register_module("cv3", std::make_shared<ConvLayer>(2 * hidden, out));
  torch::nn::ModuleList list;
  for (std::int64_t i = 0; i < repeats; ++i) {
    m_.push_back(std::make_shared<BottleneckLayer>(hidden, hidden, shortcut, 1.0));
    list->push_back(m_.back());
  }
  register_module("m", list);
}

Tensor C3Layer::forward(const std::vector<Tensor>& inputs) {
  const Tensor& x = inputs[0];
  BatchNormSiluPart deep = cv1_->part(x);
  for (const auto& bottleneck : m_) deep = bottleneck->part(batch_norm_silu({deep}));
  return cv3_->ConvLayer::forward(batch_norm_silu({deep, cv2_->part(x)}));
}

SppfLayer::SppfLayer(std::int64_t in, std::int64_t out, std::int64_t kernel) : kernel_(kernel) {
  const std::int64_t hidden = in / 2;
  cv1_ = register_module("cv1", std::make_shared<ConvLayer>(in, hidden));
  cv2_ = register_module("cv2", std::make_shared<ConvLayer>(hidden * 4, out));
}

Tensor SppfLayer::forward(const std::vector<Tensor>& inputs) {
  const auto pool = [this](const Tensor& x) {
    return torch::max_pool2d(x, kernel_, 1, kernel_ / 2);
  };
  const Tensor x = cv1_->ConvLayer::forward(inputs[0]);
  const Tensor y1 = pool(x);
  const Tensor y2 = pool(y1);
  return cv2_->ConvLayer::forward(torch::cat({x, y1, y2, pool(y2)}, 1));
}

Tensor upsample_concat(const Tensor& small, const Tensor& large, std::int64_t scale) {
  const auto factor = static_cast<double>(scale);
  namespace F = torch::nn::functional;
  const Tensor up = F::interpolate(small, F::InterpolateFuncOptions()
                                              .scale_factor(std::vector<double>{factor, factor})
                                              .mode(torch::kNearest));
  return torch::cat({up, large}, 1);
}

}  // namespace brim
