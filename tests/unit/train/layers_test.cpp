#include "brim/train/layers.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>

namespace brim {
namespace {

using torch::Tensor;

constexpr auto kLast = torch::MemoryFormat::ChannelsLast;

torch::nn::BatchNorm2d random_norm(std::int64_t channels) {
  torch::nn::BatchNorm2d norm(torch::nn::BatchNorm2dOptions(channels).eps(1e-3).momentum(0.03));
  torch::NoGradGuard no_grad;
  norm->weight.uniform_(0.5, 1.5);
  norm->bias.uniform_(-0.5, 0.5);
  norm->running_mean.uniform_(-1, 1);
  norm->running_var.uniform_(0.5, 2);
  return norm;
}

torch::nn::BatchNorm2d copy_of(const torch::nn::BatchNorm2d& norm) {
  return torch::nn::BatchNorm2d(
      std::dynamic_pointer_cast<torch::nn::BatchNorm2dImpl>(norm->clone()));
}

Tensor composed(const std::vector<BatchNormSiluPart>& parts) {
  std::vector<Tensor> results;
  for (const auto& part : parts) {
    torch::nn::BatchNorm2d norm = part.norm;
    const Tensor y = torch::silu(norm->forward(part.input));
    results.push_back(part.residual.defined() ? part.residual + y : y);
  }
  return torch::cat(results, 1);
}

bool is_fused(const Tensor& y) {
  return y.grad_fn() != nullptr &&
         y.grad_fn()->name().find("FusedBatchNormSilu") != std::string::npos;
}

double difference(const Tensor& a, const Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-3)).item<double>();
}

Tensor leaf(Tensor x) {
  return x.contiguous(kLast).detach().requires_grad_();
}

struct Operands {
  std::vector<BatchNormSiluPart> parts{};
  std::vector<Tensor> tensors() const {
    std::vector<Tensor> result;
    for (const auto& part : parts) {
      result.insert(result.end(), {part.input, part.norm->weight, part.norm->bias});
      if (part.residual.defined()) result.push_back(part.residual);
    }
    return result;
  }
  Operands twin() const {
    Operands result;
    for (const auto& part : parts)
      result.parts.push_back({leaf(part.input.clone()), copy_of(part.norm),
                              part.residual.defined() ? leaf(part.residual.clone()) : Tensor()});
    return result;
  }
};

void expect_agreement(Operands& fused, bool training) {
  Operands plain = fused.twin();
  for (auto* side : {&fused, &plain})
    for (auto& part : side->parts) part.norm->train(training);
  const Tensor y = batch_norm_silu(fused.parts);
  const Tensor expected = composed(plain.parts);
  ASSERT_TRUE(is_fused(y));
  ASSERT_TRUE(y.is_contiguous(kLast));
  EXPECT_LT(difference(y, expected), 1e-5);
  const Tensor seed = torch::randn_like(expected);
  const auto gradients = torch::autograd::grad({y}, fused.tensors(), {seed});
  const auto expected_gradients = torch::autograd::grad({expected}, plain.tensors(), {seed});
  for (std::size_t i = 0; i < gradients.size(); ++i)
    EXPECT_LT(difference(gradients[i], expected_gradients[i]), 2e-5) << "operand " << i;
  for (std::size_t i = 0; i < fused.parts.size(); ++i) {
    const auto& a = fused.parts[i].norm;
    const auto& b = plain.parts[i].norm;
    EXPECT_LT(difference(a->running_mean, b->running_mean), 1e-5);
    EXPECT_LT(difference(a->running_var, b->running_var), 1e-5);
    EXPECT_TRUE(a->num_batches_tracked.equal(b->num_batches_tracked));
  }
}

TEST(FusedBatchNormSilu, EqualsTorchsOperationsForAnyShape) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    torch::manual_seed(seed);
    const auto pick = [](std::int64_t low, std::int64_t high) {
      return torch::randint(low, high + 1, {1}).item<std::int64_t>();
    };
    const std::int64_t n = pick(1, 4);
    const std::int64_t h = pick(1, 17);
    const std::int64_t w = pick(2, 19);
    Operands operands;
    for (std::int64_t i = pick(1, 3); i > 0; --i) {
      const std::int64_t c = 4 * pick(1, 20);
      operands.parts.push_back({leaf(torch::randn({n, c, h, w}) * 2 + 1), random_norm(c),
                                pick(0, 1) == 1 ? leaf(torch::randn({n, c, h, w})) : Tensor()});
    }
    expect_agreement(operands, true);
    expect_agreement(operands, false);
  }
}

TEST(FusedBatchNormSilu, KeepsItsDigitsWhereTheMeanIsFarFromZero) {
  torch::manual_seed(1);
  const Tensor x = (torch::randn({4, 16, 20, 20}) + 1000).contiguous(kLast);
  auto norm = random_norm(16);
  auto exact = copy_of(norm);
  exact->to(torch::kDouble);
  const Tensor expected = torch::silu(exact->forward(x.to(torch::kDouble)));
  EXPECT_LT(difference(batch_norm_silu(x, norm).to(torch::kDouble), expected), 1e-5);
}

TEST(FusedBatchNormSilu, ReadsSlicesOfWiderTensors) {
  torch::manual_seed(2);
  const Tensor wide = torch::randn({2, 48, 9, 7}).contiguous(kLast);
  auto norm = random_norm(16);
  auto twin = copy_of(norm);
  const Tensor y = batch_norm_silu(wide.slice(1, 16, 32), norm);
  EXPECT_TRUE(is_fused(y));
  EXPECT_LT(difference(y, torch::silu(twin->forward(wide.slice(1, 16, 32)))), 1e-5);
}

TEST(FusedBatchNormSilu, DoesNotDependOnTheNumberOfThreads) {
  torch::manual_seed(3);
  const Tensor x = leaf(torch::randn({3, 32, 33, 31}));
  const Tensor seed = torch::randn({3, 32, 33, 31}).contiguous(kLast);
  const auto norm = random_norm(32);
  const int before = at::get_num_threads();
  std::vector<std::vector<Tensor>> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const auto own = copy_of(norm);
    const Tensor y = batch_norm_silu(x, own);
    auto result = torch::autograd::grad({y}, {x, own->weight, own->bias}, {seed});
    result.insert(result.end(), {y, own->running_mean, own->running_var});
    results.push_back(result);
  }
  at::set_num_threads(before);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(results[0][i].equal(results[1][i])) << i;
    EXPECT_TRUE(results[0][i].equal(results[2][i])) << i;
  }
}

TEST(FusedBatchNormSilu, CarriesNotANumberAndExtremesAsTorchDoes) {
  auto norm = random_norm(4);
  norm->eval();
  Tensor x =
      torch::tensor({1e30F, -1e30F, -200.0F, 200.0F}).view({1, 4, 1, 1}).repeat({1, 1, 1, 2});
  x = x.contiguous(kLast);
  const Tensor y = batch_norm_silu(x, norm);
  const Tensor expected = torch::silu(norm->forward(x));
  EXPECT_TRUE(torch::allclose(y, expected, 1e-5, 1e-6)) << y << expected;
  x.fill_(std::nanf(""));
  EXPECT_TRUE(batch_norm_silu(x, norm).isnan().all().item<bool>());
}

TEST(FusedBatchNormSilu, FallsBackWhereItCannotServe) {
  auto norm = random_norm(8);
  EXPECT_FALSE(is_fused(batch_norm_silu(torch::randn({2, 8, 5, 5}), norm)));
  EXPECT_FALSE(
      is_fused(batch_norm_silu(torch::randn({2, 3, 5, 5}).contiguous(kLast), random_norm(3))));
  norm->to(torch::kDouble);
  EXPECT_FALSE(is_fused(
      batch_norm_silu(torch::randn({2, 8, 5, 5}, torch::kDouble).contiguous(kLast), norm)));
  // One value per channel cannot be normalised: torch's own message.
  EXPECT_THROW(batch_norm_silu(torch::randn({1, 8, 1, 1}).contiguous(kLast), random_norm(8)),
               std::exception);
}

/// Central differences in double precision on the fallback, which the fused path equals.
TEST(FusedBatchNormSilu, GradientIsTheDerivative) {
  torch::manual_seed(5);
  auto norm = random_norm(4);
  norm->to(torch::kDouble);
  const Tensor x = torch::randn({2, 4, 3, 2}, torch::kDouble).requires_grad_();
  const Tensor residual = torch::randn({2, 4, 3, 2}, torch::kDouble);
  const Tensor seed = torch::randn({2, 4, 3, 2}, torch::kDouble);
  const auto value = [&](const Tensor& at) {
    return (batch_norm_silu({{at, norm, residual}}) * seed).sum();
  };
  const Tensor gradient = torch::autograd::grad({value(x)}, {x})[0].flatten();
  torch::NoGradGuard no_grad;
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double step = 1e-6;
    Tensor up = x.detach().clone();
    up.view(-1)[i] += step;
    Tensor down = x.detach().clone();
    down.view(-1)[i] -= step;
    const double slope = (value(up) - value(down)).item<double>() / (2 * step);
    EXPECT_NEAR(gradient[i].item<double>(), slope, 1e-6);
  }
}

TEST(Layers, C3OfSlicesAndConcatenationsKeepsChannelsLast) {
  C3Layer layer(32, 64, 2, Shortcut::Add);
  use_channels_last(layer);
  const Tensor y = layer.forward({torch::randn({2, 32, 8, 8}).contiguous(kLast)});
  EXPECT_EQ(y.sizes(), (torch::IntArrayRef{2, 64, 8, 8}));
  EXPECT_TRUE(y.is_contiguous(kLast));
  y.sum().backward();
  for (const auto& parameter : layer.named_parameters())
    EXPECT_TRUE(parameter.value().grad().defined()) << parameter.key();
}

TEST(Layers, UpsampleConcatRepeatsEachValue) {
  const Tensor small = torch::arange(4, torch::kFloat).view({1, 1, 2, 2});
  const Tensor large = torch::full({1, 1, 4, 4}, 9.0F);
  const Tensor y = upsample_concat(small, large, 2);
  EXPECT_TRUE(y[0][0].equal(small[0][0].repeat_interleave(2, 0).repeat_interleave(2, 1)));
  EXPECT_TRUE(y[0][1].equal(large[0][0]));
}

}  // namespace
}  // namespace brim
