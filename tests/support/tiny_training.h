#pragma once

#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <string>
#include <vector>

#include "brim/dataloader/torch/libtorch.h"
#include "brim/train/network.h"
#include "brim/train/objective.h"

namespace brim::test {

/// Convolution, batch norm, dropout, linear: small, but with buffers and a generator.
class TinyNetwork : public Network {
 public:
  explicit TinyNetwork(double dropout = 0.2, int channels = 8) {
    conv_ = register_module("conv",
                            torch::nn::Conv2d(torch::nn::Conv2dOptions(3, channels, 3).stride(2)));
    bn_ = register_module("bn", torch::nn::BatchNorm2d(channels));
    drop_ = register_module("drop", torch::nn::Dropout(dropout));
    linear_ = register_module("linear", torch::nn::Linear(channels, 4));
  }
  NetworkOutput forward(const torch::Tensor& images) override {
    last_height = images.size(2);
    torch::Tensor x = torch::silu(bn_->forward(conv_->forward(images)));
    x = drop_->forward(x.mean({2, 3}));
    return {.predictions = linear_->forward(x)};
  }
  Task task() const override { return Task::Classify; }
  int classes() const override { return 4; }
  int max_stride() const override { return 8; }
  const std::string& name() const override { return name_; }
  std::int64_t last_height = 0;

 private:
  std::string name_ = "tiny";
  torch::nn::Conv2d conv_{nullptr};
  torch::nn::BatchNorm2d bn_{nullptr};
  torch::nn::Dropout drop_{nullptr};
  torch::nn::Linear linear_{nullptr};
};

/// The same without anything that looks at more than one image.
class PerImageNetwork : public TinyNetwork {
 public:
  PerImageNetwork() : TinyNetwork(0.0) {}
  NetworkOutput forward(const torch::Tensor& images) override {
    eval();  // batch norm by its running statistics
    NetworkOutput output = TinyNetwork::forward(images);
    train();
    return output;
  }
};

class TinyObjective : public Objective {
 public:
  LossResult loss(const NetworkOutput& output, const TensorBatch& batch) override {
    const torch::Tensor mean =
        torch::nn::functional::cross_entropy(output.predictions, batch.class_ids);
    return {mean * static_cast<double>(batch.size()), mean.detach().reshape({1})};
  }
  std::vector<std::string> component_names() const override { return {"cls"}; }
};

/// `count` random batches of `size` images, 16x24.
inline std::vector<TensorBatch> tiny_batches(int count, std::int64_t size, std::uint64_t seed = 5) {
  torch::Generator generator = at::detail::createCPUGenerator(seed);
  std::vector<TensorBatch> batches;
  for (int i = 0; i < count; ++i) {
    TensorBatch batch;
    batch.images = torch::randint(256, {size, 3, 16, 24}, generator, torch::kByte)
                       .contiguous(torch::MemoryFormat::ChannelsLast);
    batch.class_ids = torch::randint(4, {size}, generator, torch::kLong);
    batch.number = i;
    batches.push_back(std::move(batch));
  }
  return batches;
}

}  // namespace brim::test
