#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/pooling.h>

#include <array>
#include <optional>

#include "brim/train/layers.h"
#include "yolo_network.h"

namespace brim::detail {
namespace {

using torch::Tensor;
namespace nn = torch::nn;

nn::Conv2d convolution(std::int64_t in, std::int64_t out, std::int64_t kernel,
                       std::int64_t stride = 1) {
  nn::Conv2d conv(
      nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
  nn::init::kaiming_normal_(conv->weight, 0.0, torch::kFanOut, torch::kReLU);
  return conv;
}

/// A residual block of torchvision's names: two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times
/// the channels at the end; the stride sits in the first 3x3.
class ResidualBlock : public nn::Module {
 public:
  enum class Kind { Basic, Bottleneck };

  ResidualBlock(Kind kind, std::int64_t in, std::int64_t planes, std::int64_t stride) {
    const std::int64_t out = kind == Kind::Basic ? planes : planes * 4;
    if (kind == Kind::Basic) {
      add(1, convolution(in, planes, 3, stride), planes);
      add(2, convolution(planes, planes, 3), planes);
    } else {
      add(1, convolution(in, planes, 1), planes);
      add(2, convolution(planes, planes, 3, stride), planes);
      add(3, convolution(planes, out, 1), out);
    }
    if (stride == 1 && in == out) return;
    narrow_ = convolution(in, out, 1, stride);
    narrow_norm_ = nn::BatchNorm2d(out);
    register_module("downsample", nn::Sequential(narrow_, narrow_norm_));
  }

  Tensor forward(const Tensor& x) {
    Tensor y = x;
    for (std::size_t i = 0; i < convs_.size(); ++i) {
      y = batch_norm(convolve(y, convs_[i]), norms_[i]);
      if (i + 1 < convs_.size()) y = y.relu_();
    }
    return y.add_(narrow_ ? batch_norm(convolve(x, narrow_), narrow_norm_) : x).relu_();
  }

 private:
  std::vector<nn::Conv2d> convs_;
  std::vector<nn::BatchNorm2d> norms_;
  nn::Conv2d narrow_{nullptr};
  nn::BatchNorm2d narrow_norm_{nullptr};

  void add(int number, const nn::Conv2d& conv, std::int64_t channels) {
    convs_.push_back(register_module("conv" + std::to_string(number), conv));
    norms_.push_back(register_module("bn" + std::to_string(number), nn::BatchNorm2d(channels)));
  }
};

struct ResNetShape {
  const char* name;
  ResidualBlock::Kind kind;
  std::array<int, 4> blocks;
};

constexpr std::array<ResNetShape, 4> kShapes{
    {{"resnet18", ResidualBlock::Kind::Basic, {2, 2, 2, 2}},
     {"resnet34", ResidualBlock::Kind::Basic, {3, 4, 6, 3}},
     {"resnet50", ResidualBlock::Kind::Bottleneck, {3, 4, 6, 3}},
     {"resnet101", ResidualBlock::Kind::Bottleneck, {3, 4, 23, 3}}}};

class ResNet : public Network {
 public:
  ResNet(const ResNetShape& shape, int classes) : name_(shape.name), classes_(classes) {
    conv1_ = register_module(
        "conv1", nn::Conv2d(nn::Conv2dOptions(3, 64, 7).stride(2).padding(3).bias(false)));
    nn::init::kaiming_normal_(conv1_->weight, 0.0, torch::kFanOut, torch::kReLU);
    bn1_ = register_module("bn1", nn::BatchNorm2d(64));
    std::int64_t width = 64;
    for (std::size_t i = 0; i < shape.blocks.size(); ++i) {
      const std::int64_t planes = 64LL << i;
      nn::ModuleList stage;
      for (int k = 0; k < shape.blocks[i]; ++k) {
        blocks_.push_back(
            std::make_shared<ResidualBlock>(shape.kind, width, planes, k == 0 && i > 0 ? 2 : 1));
        stage->push_back(blocks_.back());
        block_names_.push_back("layer" + std::to_string(i + 1) + "." + std::to_string(k));
        width = shape.kind == ResidualBlock::Kind::Basic ? planes : planes * 4;
      }
      register_module("layer" + std::to_string(i + 1), stage);
    }
    fc_ = register_module("fc", nn::Linear(width, classes));
    use_channels_last(*this);
  }

  NetworkOutput forward(const Tensor& images) override {
    Tensor x = images.contiguous(torch::MemoryFormat::ChannelsLast);
    layer_done("");
    x = batch_norm(conv1_->forward(x), bn1_).relu_();
    x = torch::max_pool2d(x, 3, 2, 1);
    layer_done("conv1");
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const auto& block = blocks_[i];
      x = run_block(
          *block, [block](const Tensor& in) { return block->forward(in); }, x);
      layer_done(block_names_[i]);
    }
    x = torch::adaptive_avg_pool2d(x, {1, 1}).flatten(1);
    NetworkOutput output{.predictions = fc_->forward(x), .levels = {}};
    layer_done("fc");
    return output;
  }

  bool can_recompute() const override { return true; }
  Task task() const override { return Task::Classify; }
  int classes() const override { return classes_; }
  int max_stride() const override { return 1; }
  const std::string& name() const override { return name_; }

 private:
  std::string name_;
  int classes_;
  nn::Conv2d conv1_{nullptr};
  nn::BatchNorm2d bn1_{nullptr};
  std::vector<std::shared_ptr<ResidualBlock>> blocks_;
  std::vector<std::string> block_names_;
  nn::Linear fc_{nullptr};
};

}  // namespace

std::shared_ptr<Network> make_resnet(const std::string& name, int classes) {
  for (const ResNetShape& shape : kShapes)
    if (name == shape.name) return std::make_shared<ResNet>(shape, classes);
  return nullptr;
}

}  // namespace brim::detail
