#include "yolo_network.h"

#include <algorithm>
#include <cmath>

#include "brim/cache/error.h"
#include "yolo_builder.h"

namespace brim::detail {
namespace {

using torch::Tensor;

class YoloNetwork : public Detector {
 public:
  YoloNetwork(YoloParts parts, std::string name, int classes)
      : name_(std::move(name)),
        classes_(classes),
        rows_(std::move(parts.rows)),
        head_(std::move(parts.head)) {
    register_module("model", parts.model);
    use_channels_last(*this);
  }

  NetworkOutput forward(const Tensor& images) override {
    check_size(images);
    Tensor current = images.contiguous(torch::MemoryFormat::ChannelsLast);
    layer_done("");
    std::vector<Tensor> kept(rows_.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const YoloRow& row = rows_[i];
      std::vector<Tensor> inputs;
      for (const int from : row.from)
        inputs.push_back(from + 1 == static_cast<int>(i) ? current
                                                         : kept[static_cast<std::size_t>(from)]);
      if (row.kind == YoloRow::Kind::Detect) {
        NetworkOutput output = head_->forward(inputs);
        layer_done(label(i));
        return output;
      }
      // An upsampled map that only the join after it reads is written straight into the joined one.
      if (row.kind == YoloRow::Kind::Upsample && !row.kept && joins_next(i)) {
        const int other = rows_[i + 1].from[1];
        current = upsample_concat(inputs[0], kept[static_cast<std::size_t>(other)], row.scale);
        ++i;
      } else {
        current = run(row, inputs);
      }
      if (rows_[i].kept) kept[i] = current;
      inputs.clear();
      layer_done(label(i));
    }
    return {};
  }

  bool can_recompute() const override { return true; }
  int classes() const override { return classes_; }
  int max_stride() const override { return static_cast<int>(std::lround(strides().back())); }
  const std::string& name() const override { return name_; }
  std::vector<double> strides() const override { return head_->strides(); }
  Tensor anchors() const override { return head_->anchors; }
  void set_anchors(const Tensor& anchors) override {
    TORCH_CHECK(anchors.sizes() == head_->anchors.sizes(), "anchors of shape ",
                head_->anchors.sizes(), " expected, found ", anchors.sizes());
    torch::NoGradGuard no_grad;
    head_->anchors.copy_(anchors);
  }

 private:
  std::string name_;
  int classes_;
  std::vector<YoloRow> rows_;
  std::shared_ptr<DetectHead> head_;

  bool joins_next(std::size_t i) const {
    const YoloRow& next = rows_[i + 1];
    return next.kind == YoloRow::Kind::Concat && next.from.size() == 2 &&
           next.from[0] == static_cast<int>(i) && next.from[1] != static_cast<int>(i) &&
           next.from[1] >= 0;
  }

  std::string label(std::size_t i) const {
    static constexpr const char* kKinds[] = {"", " upsample", " concat", " detect"};
    return "model." + std::to_string(i) + kKinds[static_cast<std::size_t>(rows_[i].kind)];
  }

  Tensor run(const YoloRow& row, const std::vector<Tensor>& inputs) const {
    if (row.kind == YoloRow::Kind::Concat) return torch::cat(inputs, 1);
    if (row.kind == YoloRow::Kind::Upsample)
      return torch::upsample_nearest2d(
          inputs[0], c10::nullopt,
          std::vector<double>{static_cast<double>(row.scale), static_cast<double>(row.scale)});
    Tensor x = inputs[0];
    for (const auto& layer : row.layers)
      x = run_block(
          *layer, [layer](const Tensor& in) { return layer->forward({in}); }, x);
    return x;
  }

  void check_size(const Tensor& images) const {
    if (images.dim() == 4 && images.size(1) == 3 && images.size(2) % max_stride() == 0 &&
        images.size(3) % max_stride() == 0 && images.size(2) > 0 && images.size(3) > 0)
      return;
    std::string shape;
    for (const std::int64_t side : images.sizes())
      shape += (shape.empty() ? "" : "x") + std::to_string(side);
    throw Error(name_ + " takes images of 3 channels with sides that are multiples of " +
                    std::to_string(max_stride()) + ", found " + shape,
                {}, "choose an image size that is a multiple of " + std::to_string(max_stride()));
  }
};

}  // namespace

std::shared_ptr<Detector> make_yolo(const ModelSpec& spec, const std::string& name, int classes) {
  return std::make_shared<YoloNetwork>(build_yolo(spec, classes), name, classes);
}

}  // namespace brim::detail
