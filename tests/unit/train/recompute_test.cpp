#include "brim/train/recompute.h"

#include <gtest/gtest.h>

#include "brim/train/cpu_allocator.h"
#include "brim/train/ema.h"
#include "brim/train/network.h"
#include "brim/train/precision.h"
#include "brim/train/weights.h"
#include "support/tiny_training.h"

namespace {
using brim::Activations;

struct Pass {
  torch::Tensor loss, input_gradient, next_random;
  brim::TensorMap gradients, buffers;
  std::int64_t peak = 0;

  /// The peak less the parameters' gradients, which both ways of working leave behind.
  double activation_bytes() const {
    std::int64_t bytes = peak;
    for (const auto& item : gradients) bytes -= static_cast<std::int64_t>(item.second.nbytes());
    return static_cast<double>(bytes);
  }
};

Pass run(const std::string& model, Activations activations, brim::Precision precision,
         std::int64_t side) {
  at::set_num_threads(1);
  torch::manual_seed(5);
  const auto network = brim::make_network({.model = model, .classes = 3});
  network->set_activations(activations);
  network->train();
  torch::Tensor images = torch::rand({2, 3, side, side}).requires_grad_(true);
  Pass pass;
  brim::NetworkOutput output;
  {
    const brim::AllocatorPhase phase("test pass");
    const std::int64_t before = brim::allocator_statistics().live;
    {
      const brim::AutocastScope autocast(precision, torch::kCPU);
      output = network->forward(images);
    }
    pass.loss = torch::zeros({});
    for (const torch::Tensor& level : output.levels)
      pass.loss = pass.loss + level.to(torch::kFloat).square().mean();
    if (output.predictions.defined())
      pass.loss = pass.loss + output.predictions.to(torch::kFloat).square().mean();
    pass.loss.backward();
    pass.peak = phase.peak_live() - before;
  }
  for (const auto& item : network->named_parameters())
    pass.gradients[item.key()] = item.value().grad();
  for (const auto& item : network->named_buffers()) pass.buffers[item.key()] = item.value().clone();
  pass.input_gradient = images.grad();
  pass.next_random = torch::rand({3});
  return pass;
}

void expect_equal(const Pass& a, const Pass& b) {
  EXPECT_TRUE(a.loss.equal(b.loss));
  EXPECT_TRUE(a.next_random.equal(b.next_random));
  EXPECT_TRUE(a.input_gradient.allclose(b.input_gradient, 1e-6, 1e-9));
  for (const auto& [name, value] : a.gradients)
    EXPECT_TRUE(value.allclose(b.gradients.at(name), 1e-6, 1e-8)) << name;
  for (const auto& [name, value] : a.buffers) EXPECT_TRUE(value.equal(b.buffers.at(name))) << name;
}

TEST(Recompute, GivesTheGradientsAndStatisticsOfThePlainPass) {
  for (const char* model : {"yolov5n", "resnet18"}) {
    SCOPED_TRACE(model);
    expect_equal(run(model, Activations::Keep, brim::Precision::Fp32, 64),
                 run(model, Activations::Recompute, brim::Precision::Fp32, 64));
  }
}

TEST(Recompute, SeesTheAutocastOfTheFirstPass) {
  expect_equal(run("yolov5n", Activations::Keep, brim::Precision::Bf16, 64),
               run("yolov5n", Activations::Recompute, brim::Precision::Bf16, 64));
}

TEST(Recompute, TakesMuchLessMemory) {
  brim::install_cpu_allocator();
  const auto bytes = [](Activations activations) {
    return run("yolov5n", activations, brim::Precision::Fp32, 160).activation_bytes();
  };
  const double kept = bytes(Activations::Keep), recomputed = bytes(Activations::Recompute);
  RecordProperty("kept_bytes", std::to_string(kept));
  RecordProperty("recomputed_bytes", std::to_string(recomputed));
  EXPECT_LT(recomputed, 0.7 * kept);
}

TEST(Recompute, RepeatsTheSameDropout) {
  torch::nn::Dropout dropout(0.5);
  torch::manual_seed(9);
  const torch::Tensor x = torch::ones({1000}).requires_grad_(true);
  const torch::Tensor y = brim::recompute_in_backward(
      *dropout, [&](const torch::Tensor& in) { return dropout->forward(in); }, x);
  y.sum().backward();
  EXPECT_TRUE(x.grad().equal(y.detach()));  // 0 where dropped, 2 where kept
}

}  // namespace
