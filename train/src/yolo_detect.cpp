#include "yolo_detect.h"

#include <cmath>

#include "brim/train/layers.h"

namespace brim::detail {

using torch::Tensor;

namespace {

/// Pixels need more digits than half precision has.
torch::ScalarType precise(const Tensor& raw) {
  return raw.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
}

}  // namespace

DetectHead::DetectHead(int classes, const Tensor& anchors_in_pixels, std::vector<double> strides,
                       const std::vector<std::int64_t>& channels)
    : values_(5 + classes), strides_(std::move(strides)) {
  Tensor scaled = anchors_in_pixels.to(torch::kFloat).clone();
  for (std::size_t i = 0; i < strides_.size(); ++i)
    scaled[static_cast<std::int64_t>(i)].div_(strides_[i]);
  anchors = register_buffer("anchors", scaled);
  torch::NoGradGuard no_grad;
  torch::nn::ModuleList list;
  const std::int64_t per_level = scaled.size(1);
  for (std::size_t i = 0; i < strides_.size(); ++i) {
    m_.emplace_back(torch::nn::Conv2dOptions(channels[i], per_level * values_, 1));
    Tensor bias = m_.back()->bias.view({per_level, values_});
    bias.select(1, 4).add_(std::log(8.0 / std::pow(640.0 / strides_[i], 2)));
    bias.slice(1, 5).add_(std::log(0.6 / (classes - 0.99999)));
    list->push_back(m_.back());
  }
  register_module("m", list);
}

NetworkOutput DetectHead::forward(const std::vector<Tensor>& maps) {
  NetworkOutput output;
  const std::int64_t per_level = anchors.size(1);
  std::int64_t boxes = 0;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const Tensor raw = convolve(maps[i], m_[i]);
    const std::int64_t height = raw.size(2);
    const std::int64_t width = raw.size(3);
    // In channels-last memory this is a view; nothing is moved.
    output.levels.push_back(
        raw.view({raw.size(0), per_level, values_, height, width}).permute({0, 1, 3, 4, 2}));
    boxes += per_level * height * width;
  }
  if (is_training()) return output;
  const Tensor& first = output.levels.front();
  output.predictions =
      torch::empty({first.size(0), boxes, values_}, first.options().dtype(precise(first)));
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const Tensor& raw = output.levels[i];
    const std::int64_t count = per_level * raw.size(2) * raw.size(3);
    decode(raw, i, output.predictions.narrow(1, begin, count));
    begin += count;
  }
  return output;
}

void DetectHead::decode(const Tensor& raw, std::size_t level, Tensor out) const {
  const std::int64_t n = raw.size(0);
  const std::int64_t per_level = raw.size(1);
  const std::int64_t height = raw.size(2);
  const std::int64_t width = raw.size(3);
  const double stride = strides_[level];
  const Tensor s = raw.to(precise(raw)).sigmoid();
  const auto x = torch::arange(width, s.options()).view({1, 1, 1, width});
  const auto y = torch::arange(height, s.options()).view({1, 1, height, 1});
  const Tensor anchor = anchors[static_cast<std::int64_t>(level)].to(s.dtype());
  const Tensor sides = (anchor * stride).view({1, per_level, 1, 1, 2});
  const Tensor boxes = out.view({n, per_level, height, width, values_});
  boxes.select(4, 0).copy_((s.select(4, 0) * 2 - 0.5 + x) * stride);
  boxes.select(4, 1).copy_((s.select(4, 1) * 2 - 0.5 + y) * stride);
  boxes.slice(4, 2, 4).copy_((s.slice(4, 2, 4) * 2).square() * sides);
  boxes.slice(4, 4).copy_(s.slice(4, 4));
}

}  // namespace brim::detail
