#include "brim/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim.h>

#include <cmath>
#include <limits>

#include "brim/cache/error.h"

namespace {
using brim::OptimizerKind;

/// Convolution, batch norm, linear: every group has something in it.
struct Small : torch::nn::Module {
  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm2d bn{nullptr};
  torch::nn::Linear linear{nullptr};
  explicit Small(torch::MemoryFormat format = torch::MemoryFormat::Contiguous) {
    conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, 40, 3)));
    bn = register_module("bn", torch::nn::BatchNorm2d(40));
    linear = register_module("linear", torch::nn::Linear(40, 700));
    for (torch::Tensor& p : parameters())
      if (p.dim() == 4) p.set_data(p.detach().clone(format));
  }
};

void fill_gradients(torch::nn::Module& module, std::uint64_t seed, double size = 1.0) {
  torch::Generator generator = at::detail::createCPUGenerator(seed);
  for (torch::Tensor& p : module.parameters())
    p.mutable_grad() = torch::randn(p.sizes(), generator) * size;
}

void copy_weights(torch::nn::Module& from, torch::nn::Module& to) {
  const torch::NoGradGuard no_grad;
  for (const auto& item : from.named_parameters())
    to.named_parameters()[item.key()].copy_(item.value());
}

double difference(torch::nn::Module& a, torch::nn::Module& b) {
  double worst = 0;
  for (const auto& item : a.named_parameters())
    worst = std::max(worst,
                     (item.value() - b.named_parameters()[item.key()]).abs().max().item<double>());
  return worst;
}

/// torch::optim with the same three groups.
std::unique_ptr<torch::optim::Optimizer> reference(Small& m, OptimizerKind kind, double lr,
                                                   double decay) {
  using Group = torch::optim::OptimizerParamGroup;
  const std::vector<torch::Tensor> plain{m.conv->bias, m.bn->bias, m.linear->bias, m.bn->weight};
  const std::vector<torch::Tensor> decayed{m.conv->weight, m.linear->weight};
  const auto groups = [&](auto options) {
    auto with = std::make_unique<decltype(options)>(options);
    with->weight_decay(decay);
    auto without = std::make_unique<decltype(options)>(options);
    without->weight_decay(0);
    std::vector<Group> result;
    result.emplace_back(plain, std::move(without));
    result.emplace_back(decayed, std::move(with));
    return result;
  };
  if (kind == OptimizerKind::Sgd) {
    const auto options = torch::optim::SGDOptions(lr).momentum(0.9).nesterov(true);
    return std::make_unique<torch::optim::SGD>(groups(options), options);
  }
  if (kind == OptimizerKind::Adam) {
    const auto options = torch::optim::AdamOptions(lr).betas({0.9, 0.999});
    return std::make_unique<torch::optim::Adam>(groups(options), options);
  }
  const auto options = torch::optim::AdamWOptions(lr).betas({0.9, 0.999});
  return std::make_unique<torch::optim::AdamW>(groups(options), options);
}

class OptimizerNumerics : public ::testing::TestWithParam<std::tuple<OptimizerKind, bool>> {};

TEST_P(OptimizerNumerics, EqualThoseOfTorchOptim) {
  const auto [kind, clipped] = GetParam();
  torch::manual_seed(1);
  Small ours(torch::MemoryFormat::ChannelsLast), theirs;
  copy_weights(ours, theirs);
  brim::Optimizer optimizer(ours, {.kind = kind, .momentum = 0.9, .weight_decay = 0.05});
  optimizer.set_learning_rates({0.01, 0.01, 0.01});
  const auto expected = reference(theirs, kind, 0.01, 0.05);
  for (std::uint64_t step = 0; step < 5; ++step) {
    fill_gradients(ours, step);
    fill_gradients(theirs, step);
    double norm = 0;
    if (clipped) norm = torch::nn::utils::clip_grad_norm_(theirs.parameters(), 10.0);
    expected->step();
    const brim::StepResult result = optimizer.step({.max_norm = clipped ? 10.0 : 0.0});
    ASSERT_TRUE(result.stepped);
    if (clipped) {
      EXPECT_NEAR(result.gradient_norm, norm, 1e-3);
    }
    EXPECT_LT(difference(ours, theirs), 1e-6) << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerNumerics,
                         ::testing::Combine(::testing::Values(OptimizerKind::Sgd,
                                                              OptimizerKind::Adam,
                                                              OptimizerKind::AdamW),
                                            ::testing::Bool()));

TEST(Optimizer, SortsParametersIntoThreeGroups) {
  Small small;
  EXPECT_EQ(brim::Optimizer(small, {}).group_sizes(), (std::array<std::int64_t, 3>{3, 2, 1}));
}

TEST(Optimizer, DoesNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  std::vector<torch::Tensor> results;
  for (const int n : {1, 2, 3}) {
    at::set_num_threads(n);
    torch::manual_seed(1);
    Small small;
    brim::Optimizer optimizer(small, {});
    optimizer.set_learning_rates({0.1, 0.1, 0.1});
    fill_gradients(small, 3);
    optimizer.step({.max_norm = 1.0});
    results.push_back(small.linear->weight.detach().clone());
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(results[0].equal(results[1]));
  EXPECT_TRUE(results[0].equal(results[2]));
}

TEST(Optimizer, LeavesEverythingAloneWhenAGradientIsNotFinite) {
  Small small;
  brim::Optimizer optimizer(small, {});
  optimizer.set_learning_rates({0.1, 0.1, 0.1});
  brim::ModelEma ema(small);
  const torch::Tensor before = small.linear->weight.detach().clone();
  fill_gradients(small, 1);
  small.bn->bias.mutable_grad()[3] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(optimizer.step({.ema = &ema}).stepped);
  EXPECT_TRUE(small.linear->weight.equal(before));
  EXPECT_EQ(ema.updates(), 0);
}

TEST(Optimizer, AppliesTheGradientFactorBeforeClipping) {
  Small a, b;
  copy_weights(a, b);
  brim::Optimizer first(a, {}), second(b, {});
  first.set_learning_rates({0.1, 0.1, 0.1});
  second.set_learning_rates({0.1, 0.1, 0.1});
  fill_gradients(a, 1, 1.0);
  fill_gradients(b, 1, 1024.0);
  const brim::StepResult one = first.step({.max_norm = 10.0});
  const brim::StepResult two = second.step({.max_norm = 10.0, .gradient_factor = 1.0 / 1024.0});
  EXPECT_NEAR(one.gradient_norm, two.gradient_norm, 1e-6 * one.gradient_norm);
  EXPECT_LT(difference(a, b), 1e-7);
}

TEST(Optimizer, ContinuesExactlyFromItsSavedState) {
  for (const OptimizerKind kind : {OptimizerKind::Sgd, OptimizerKind::AdamW}) {
    torch::manual_seed(1);
    Small a, b;
    brim::Optimizer first(a, {.kind = kind});
    first.set_learning_rates({0.1, 0.1, 0.1});
    for (int step = 0; step < 3; ++step) {
      fill_gradients(a, step);
      first.step();
    }
    copy_weights(a, b);
    brim::Optimizer second(b, {.kind = kind});
    second.set_learning_rates({0.1, 0.1, 0.1});
    second.load(first.state());
    fill_gradients(a, 9);
    fill_gradients(b, 9);
    first.step();
    second.step();
    EXPECT_EQ(difference(a, b), 0.0);
  }
}

TEST(Optimizer, NamesWhatASavedStateLacks) {
  Small small;
  brim::Optimizer optimizer(small, {});
  brim::TensorMap state = optimizer.state();
  state.erase("momentum.bn.bias");
  try {
    optimizer.load(state);
    FAIL() << "no error";
  } catch (const brim::Error& error) {
    EXPECT_EQ(error.message(), "the optimiser state lacks 'momentum.bn.bias'");
  }
}

TEST(Optimizer, SkipsFrozenParameters) {
  Small small;
  small.conv->weight.set_requires_grad(false);
  brim::Optimizer optimizer(small, {});
  EXPECT_EQ(optimizer.group_sizes()[1], 1);
}

TEST(ModelEma, FollowsItsFormulaForWeightsAndBuffers) {
  torch::manual_seed(1);
  Small small;
  brim::ModelEma ema(small);
  EXPECT_NEAR(ema.decay_at(1), 0.000499825033328626, 1e-15);
  EXPECT_NEAR(ema.decay_at(2000), 0.6320573467726748, 1e-12);
  brim::Optimizer optimizer(small, {});
  optimizer.set_learning_rates({0.1, 0.1, 0.1});
  std::map<std::string, torch::Tensor> expected;
  for (const auto& [name, tensor] : ema.state()) expected[name] = tensor.clone().to(torch::kDouble);
  for (int step = 1; step <= 4; ++step) {
    fill_gradients(small, step);
    small.bn->running_mean.add_(step);
    small.bn->num_batches_tracked.add_(1);
    optimizer.step({.ema = &ema});
    const double d = ema.decay_at(step);
    for (auto& [name, tensor] : expected) {
      const torch::Tensor live = small.named_parameters().contains(name)
                                     ? small.named_parameters()[name]
                                     : small.named_buffers()[name];
      tensor = name == "bn.num_batches_tracked" ? live.to(torch::kDouble)
                                                : tensor * d + live.to(torch::kDouble) * (1 - d);
    }
  }
  for (const auto& [name, tensor] : ema.state())
    EXPECT_LT((tensor.to(torch::kDouble) - expected[name]).abs().max().item<double>(), 2e-6)
        << name;
}

TEST(ModelEma, LendsItsWeightsToTheNetworkAndTakesThemBack) {
  torch::manual_seed(1);
  Small small(torch::MemoryFormat::ChannelsLast);
  brim::ModelEma ema(small);
  const torch::Tensor average = ema.state()["conv.weight"].clone();
  {
    const torch::NoGradGuard no_grad;
    small.conv->weight.add_(1);
  }
  const torch::Tensor live = small.conv->weight.detach().clone();
  {
    const brim::ModelEma::Scope scope(ema);
    EXPECT_TRUE(small.conv->weight.equal(average));
    EXPECT_TRUE(ema.state()["conv.weight"].equal(live));
  }
  EXPECT_TRUE(small.conv->weight.equal(live));
  EXPECT_TRUE(ema.state()["conv.weight"].equal(average));
  EXPECT_TRUE(small.conv->weight.requires_grad());
  ema.update();
  EXPECT_FALSE(ema.state()["conv.weight"].equal(average));
}
}  // namespace
