// Out-of-memory at every allocation of a training step: the run goes on as if nothing had been.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "brim/train/cpu_allocator.h"
#include "brim/train/detection_loss.h"
#include "brim/train/surviving_step.h"
#include "brim/train/trainer.h"
#include "support/test_data.h"
#include "support/tiny_training.h"

namespace {
using brim::TensorBatch;
using brim::Trainer;
using brim::TrainOptions;

/// Of a detector's step every so many-th allocation fails; BRIM_TEST_STRIDE=1 for each of them.
constexpr std::int64_t kStride = 49;
constexpr std::int64_t kSmall = 256 * 1024;  // bytes; activations of a step are many times that

/// What a training has learnt, and how.
struct Outcome {
  brim::TensorMap model, optimizer, ema;
  int micro_batches = 1;
  std::int64_t images = 0;
  std::int64_t computed = 0;  ///< images whose loss was computed in the step under test
  std::vector<double> losses;
  std::int64_t allocations = 0;  ///< of the step under test
  bool failed = false;
};

/// A model, its loss and its batches, made anew for every run.
struct Case {
  std::function<std::shared_ptr<brim::Network>()> network;
  std::function<std::shared_ptr<brim::Objective>(brim::Network&)> objective;
  std::vector<TensorBatch> batches;
  brim::OptimizerKind optimizer = brim::OptimizerKind::Sgd;
  brim::ActivationCheckpointing activations = brim::ActivationCheckpointing::Off;
};

/// Counts the images that a loss is computed of: what a step that is run again costs.
class Counting final : public brim::Objective {
 public:
  explicit Counting(std::shared_ptr<brim::Objective> counted) : counted_(std::move(counted)) {}
  brim::LossResult loss(const brim::NetworkOutput& output, const TensorBatch& batch) override {
    images += batch.size();
    return counted_->loss(output, batch);
  }
  brim::LossResult partial_loss(const brim::NetworkOutput& output, const TensorBatch& part,
                                const TensorBatch& whole) override {
    images += part.size();
    return counted_->partial_loss(output, part, whole);
  }
  std::vector<std::string> component_names() const override { return counted_->component_names(); }
  std::int64_t images = 0;

 private:
  std::shared_ptr<brim::Objective> counted_;
};

brim::TensorMap copy(const brim::TensorMap& map) {
  brim::TensorMap result;
  for (const auto& [name, tensor] : map) result[name] = tensor.detach().clone();
  return result;
}

/// Trains on all batches; in the second, allocation `index` fails (-1: none). With `parts` the
/// second batch is run in as many parts from the start.
Outcome train(const Case& c, std::int64_t index, int parts = 1) {
  torch::manual_seed(3);
  const auto network = c.network();
  TrainOptions options;
  options.batch_size = c.batches[0].size();
  options.nominal_batch = 2 * options.batch_size;  // the second batch adds to gradients set aside
  options.optimizer.kind = c.optimizer;
  options.activation_checkpointing = c.activations;
  options.precision = brim::Precision::Fp32;
  Outcome outcome;
  const auto objective = std::make_shared<Counting>(c.objective(*network));
  // Trainer's own micro-batches for a single step: a part size that only holds there.
  Trainer trainer(network, objective, options);
  for (std::size_t i = 0; i < c.batches.size(); ++i) {
    const std::int64_t before = brim::allocator_statistics().allocations;
    const std::int64_t failures = brim::allocator_statistics().failures;
    if (i == 1) {
      if (parts > 1) trainer.reduce_parts((c.batches[i].size() + parts - 1) / parts);
      objective->images = 0;
      brim::inject_allocation_failure(index);
    }
    const brim::StepEvent event = trainer.step(c.batches[i]);
    if (i == 1) {
      brim::inject_allocation_failure(-1);
      outcome.micro_batches = event.micro_batches;
      outcome.computed = objective->images;
      outcome.allocations = brim::allocator_statistics().allocations - before;
      outcome.failed = brim::allocator_statistics().failures > failures;
    }
    outcome.images += event.images;
    outcome.losses = event.mean_components;
  }
  const brim::Checkpoint state = trainer.checkpoint();
  outcome.model = copy(state.model);
  outcome.optimizer = copy(state.optimizer);
  outcome.ema = copy(state.ema);
  return outcome;
}

/// Largest difference relative to the largest value of each tensor.
double difference(const brim::TensorMap& a, const brim::TensorMap& b) {
  double worst = 0;
  for (const auto& [name, tensor] : a) {
    const torch::Tensor x = tensor.to(torch::kDouble), y = b.at(name).to(torch::kDouble);
    if (x.numel() == 0) continue;
    const double scale = std::max(x.abs().max().item<double>(), 1e-12);
    const double found = (x - y).abs().max().item<double>() / scale;
    if (std::isnan(found)) return found;  // no comparison holds for it
    worst = std::max(worst, found);
  }
  return worst;
}

void expect_same(const Outcome& found, const Outcome& expected, std::int64_t index) {
  EXPECT_LE(difference(found.model, expected.model), 1e-6) << "allocation " << index;
  EXPECT_LE(difference(found.optimizer, expected.optimizer), 1e-6) << "allocation " << index;
  EXPECT_LE(difference(found.ema, expected.ema), 1e-6) << "allocation " << index;
  EXPECT_EQ(found.images, expected.images);
  ASSERT_EQ(found.losses.size(), expected.losses.size());
  for (std::size_t i = 0; i < found.losses.size(); ++i)
    EXPECT_NEAR(found.losses[i], expected.losses[i], 1e-6 * std::abs(expected.losses[i]));
}

/// Fails every `stride`-th allocation of the step, one run each.
void fail_everywhere(const Case& c, std::int64_t stride) {
  brim::install_cpu_allocator();
  at::set_num_threads(1);
  std::map<int, Outcome> expected;
  expected.emplace(1, train(c, -1));
  const std::int64_t allocations = expected.at(1).allocations;
  ASSERT_GT(allocations, 20);
  int repeated = 0;
  for (std::int64_t index = 0; index < allocations; index += stride) {
    const Outcome found = train(c, index);
    ASSERT_TRUE(found.failed) << "allocation " << index << " was not reached";
    if (!expected.contains(found.micro_batches))
      expected.emplace(found.micro_batches, train(c, -1, found.micro_batches));
    repeated += found.micro_batches > 1 ? 1 : 0;
    EXPECT_LE(found.computed, 2 * c.batches[1].size())
        << "allocation " << index << " cost more than one extra step";
    expect_same(found, expected.at(found.micro_batches), index);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(repeated, 0);
}

TEST(AllocationFault, EveryAllocationOfASmallStepMayFail) {
  const Case sgd{
      .network = [] { return std::make_shared<brim::test::TinyNetwork>(); },
      .objective = [](brim::Network&) { return std::make_shared<brim::test::TinyObjective>(); },
      .batches = brim::test::tiny_batches(4, 8)};
  fail_everywhere(sgd, 1);
  Case adam = sgd;
  adam.optimizer = brim::OptimizerKind::AdamW;
  fail_everywhere(adam, 1);
}

std::vector<TensorBatch> detector_batches(int count) {
  torch::Generator generator = at::detail::createCPUGenerator(11);
  std::vector<TensorBatch> batches;
  for (int i = 0; i < count; ++i) {
    TensorBatch batch;
    batch.images = torch::randint(256, {4, 3, 64, 64}, generator, torch::kByte)
                       .contiguous(torch::MemoryFormat::ChannelsLast);
    batch.targets = torch::rand({12, 6}, generator) * 0.4 + 0.2;
    batch.targets.select(1, 0).copy_(torch::arange(12).floor_divide(3));
    batch.targets.select(1, 1).copy_(torch::arange(12).remainder(3));
    batch.number = i;
    batches.push_back(batch);
  }
  return batches;
}

TEST(AllocationFault, AllocationsOfADetectorsStepMayFail) {
  Case c{.network = [] { return brim::make_network({.model = "yolov5n", .classes = 3}); },
         .objective =
             [](brim::Network& network) {
               return std::make_shared<brim::DetectionLoss>(
                   dynamic_cast<brim::Detector&>(network).anchors(), network.classes(),
                   brim::DetectionLossOptions{.image_size = 64});
             },
         .batches = {}};
  c.batches = detector_batches(3);
  const auto stride = static_cast<std::int64_t>(brim::test::number_of("BRIM_TEST_STRIDE", kStride));
  fail_everywhere(c, stride);
  c.activations = brim::ActivationCheckpointing::On;
  fail_everywhere(c, stride);
}

/// LibTorch keeps what was left to do of a backward pass that failed.
TEST(AllocationFault, NothingOfAStepThatFailedIsHeldWhileItIsRepeated) {
  brim::install_cpu_allocator();
  at::set_num_threads(1);
  const auto network = brim::make_network({.model = "yolov5n", .classes = 3});
  brim::DetectionLoss objective(dynamic_cast<brim::Detector&>(*network).anchors(), 3,
                                brim::DetectionLossOptions{.image_size = 64});
  const TensorBatch batch = detector_batches(1)[0];
  std::vector<std::int64_t> live;  // when an attempt begins
  const auto pass = [&](const brim::StepPart& part) {
    if (part.first == 0) live.push_back(brim::allocator_statistics().live);
    const auto output = network->forward(brim::normalize_images(part.batch.images));
    objective.partial_loss(output, part.batch, part.whole).total.backward();
  };
  const auto step = [&](std::int64_t failing) {
    for (const torch::Tensor& parameter : network->parameters())
      parameter.mutable_grad() = torch::Tensor();
    brim::SurvivingStep surviving(*network);
    const std::int64_t before = brim::allocator_statistics().allocations;
    live.clear();
    brim::inject_allocation_failure(failing);
    surviving.run(batch, pass);
    brim::inject_allocation_failure(-1);
    return brim::allocator_statistics().allocations - before;
  };
  step(-1);
  const std::int64_t allocations = step(-1);
  const auto stride = static_cast<std::int64_t>(brim::test::number_of("BRIM_TEST_STRIDE", kStride));
  std::size_t repeated = 0;
  for (std::int64_t index = 0; index < allocations; index += stride) {
    step(index);
    repeated += live.size() > 1 ? 1 : 0;
    ASSERT_LE(live.back(), live.front() + kSmall) << "allocation " << index;
  }
  EXPECT_GT(repeated, 10U);
}

}  // namespace
