#include "brim/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "brim/cache/error.h"
#include "brim/train/cpu_allocator.h"
#include "support/test_data.h"
#include "support/tiny_trainer.h"

namespace {
using brim::TensorBatch;
using brim::Trainer;
using brim::TrainOptions;
using namespace brim::test;

TEST(Trainer, LowersTheLossAndTellsObservers) {
  auto batches = tiny_batches(3, 8);
  const auto source = brim::make_batch_source(batches);
  TrainOptions o = options(30);
  o.schedule = [](int, std::int64_t, std::int64_t) {
    return brim::StepPlan{{0.5, 0.5, 0.5}, 0.9, 1};
  };
  Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
  Recorder recorder;
  brim::Observer* observers[] = {&recorder};
  const brim::TrainResult result = trainer.fit(*source, loss_evaluator(), observers);
  EXPECT_EQ(result.reason, brim::EndReason::Finished);
  EXPECT_EQ(recorder.steps.size(), 90u);
  ASSERT_EQ(recorder.epochs.size(), 30u);
  EXPECT_LT(recorder.epochs.back().mean_components[0],
            0.8 * recorder.epochs.front().mean_components[0]);
  EXPECT_TRUE(recorder.epochs.front().evaluated);
  ASSERT_EQ(recorder.ends.size(), 1u);
}

TEST(Trainer, AccumulatesToTheNominalBatchAndAveragesOverItsImages) {
  // Two batches of 8 accumulated must move the weights as one batch of 16 does.
  auto halves = tiny_batches(2, 8);
  TensorBatch joined;
  joined.images = torch::cat({halves[0].images, halves[1].images});
  joined.class_ids = torch::cat({halves[0].class_ids, halves[1].class_ids});
  std::vector<brim::TensorMap> states;
  for (const bool split : {true, false}) {
    torch::manual_seed(1);
    const auto net = std::make_shared<brim::test::PerImageNetwork>();
    TrainOptions o = options(1);
    if (!split) o.batch_size = 16;
    Trainer trainer(net, std::make_shared<TinyObjective>(), o);
    if (split) {
      EXPECT_FALSE(trainer.step(halves[0]).stepped);
      EXPECT_TRUE(trainer.step(halves[1]).stepped);
    } else {
      EXPECT_TRUE(trainer.step(joined).stepped);
    }
    states.push_back(brim::state_of(*net));
  }
  for (const auto& [name, tensor] : states[0])
    EXPECT_TRUE(tensor.allclose(states[1].at(name), 1e-5, 1e-7)) << name;
}

TEST(Trainer, MicroBatchesGiveTheGradientOfTheWholeBatch) {
  auto batches = tiny_batches(1, 8);
  std::vector<brim::TensorMap> states;
  for (const std::int64_t micro : {0, 3}) {
    torch::manual_seed(1);
    const auto net = std::make_shared<brim::test::PerImageNetwork>();
    TrainOptions o = options(1);
    o.nominal_batch = 8;
    o.micro_batch = micro;
    Trainer trainer(net, std::make_shared<TinyObjective>(), o);
    const brim::StepEvent event = trainer.step(batches[0]);
    EXPECT_EQ(event.micro_batches, micro == 0 ? 1 : 3);
    states.push_back(brim::state_of(*net));
  }
  for (const auto& [name, tensor] : states[0])
    EXPECT_TRUE(tensor.allclose(states[1].at(name), 1e-5, 1e-7)) << name;
}

/// Input of the batch-norm layer, by the weights as they are.
torch::Tensor before_norm(brim::Network& net, const TensorBatch& batch) {
  const auto parameters = net.named_parameters();
  return torch::conv2d(brim::normalize_images(batch.images), parameters["conv.weight"],
                       parameters["conv.bias"], 2);
}

TEST(Trainer, MeasuresBatchNormStatisticsOfTheWeightsThatItEvaluates) {
  const auto batches = tiny_batches(5, 8);
  for (const std::int64_t measured : {3, 5, 7}) {  // batches; seven are the five and two of them
    torch::Tensor mean, variance, expected_mean = torch::zeros({8}),
                                  expected_variance = torch::zeros({8});
    TrainOptions o = options(1);
    o.precise_bn = 8 * measured;
    const auto net = network();
    Trainer trainer(net, std::make_shared<TinyObjective>(), o);
    trainer.fit(*brim::make_batch_source(batches), [&](brim::Network& n) {
      mean = n.named_buffers()["bn.running_mean"].clone();
      variance = n.named_buffers()["bn.running_var"].clone();
      for (std::int64_t i = 0; i < measured; ++i) {
        const torch::Tensor x = before_norm(n, batches[static_cast<std::size_t>(i % 5)]);
        expected_mean += x.mean({0, 2, 3}) / static_cast<double>(measured);
        expected_variance += x.var({0, 2, 3}, true) / static_cast<double>(measured);
      }
      EXPECT_FALSE(n.is_training());
      return brim::EvaluationSummary{};
    });
    EXPECT_TRUE(mean.allclose(expected_mean, 1e-4, 1e-6)) << mean << expected_mean;
    EXPECT_TRUE(variance.allclose(expected_variance, 1e-4, 1e-6)) << variance;
    EXPECT_TRUE(trainer.checkpoint().ema.at("bn.running_mean").equal(mean));
    EXPECT_FALSE(trainer.checkpoint().model.at("bn.running_mean").allclose(mean, 1e-4, 1e-6));
  }
}

TEST(Trainer, IsNotChangedByMeasuringStatistics) {
  const auto batches = tiny_batches(5, 8);
  std::vector<brim::TensorMap> states;
  for (const std::int64_t images : {0, 24}) {
    TrainOptions o = options(3);
    o.precise_bn = images;
    Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
    trainer.fit(*brim::make_batch_source(batches), loss_evaluator());
    states.push_back(trainer.checkpoint().model);
  }
  EXPECT_TRUE(equal(states[0], states[1]));
}

TEST(Trainer, WithoutAveragesEvaluatesTheWeightsThemselves) {
  auto batches = tiny_batches(2, 8);
  const TempDir folder;
  TrainOptions o = options(1, folder.path().string());
  o.ema.decay = 0;
  const auto net = network();
  Trainer trainer(net, std::make_shared<TinyObjective>(), o);
  torch::Tensor evaluated;
  trainer.fit(*brim::make_batch_source(batches), [&](brim::Network& n) {
    evaluated = n.named_parameters()["conv.weight"].detach().clone();
    return brim::EvaluationSummary{};
  });
  EXPECT_TRUE(evaluated.equal(net->named_parameters()["conv.weight"]));
  EXPECT_TRUE(brim::load_checkpoint(folder.file("last.pt")).ema.empty());
  EXPECT_THROW(trainer.ema(), brim::Error);
  Trainer again(network(77), std::make_shared<TinyObjective>(), o);
  again.resume(folder.file("last.pt"));
  EXPECT_TRUE(equal(again.checkpoint().model, trainer.checkpoint().model));
  Trainer averaging(network(77), std::make_shared<TinyObjective>(), options(1));
  try {
    averaging.resume(folder.file("last.pt"));
    FAIL();
  } catch (const brim::Error& error) {
    EXPECT_EQ(error.message(),
              "cannot resume: the checkpoint has weight averages 'off', this run 'on'");
  }
}

TEST(Trainer, MakesSmallerPartsFromTheVeryFirstBatchOn) {
  Trainer trainer(network(), std::make_shared<TinyObjective>(), options(1));
  trainer.reduce_parts(4);
  EXPECT_EQ(trainer.step(tiny_batches(1, 8).front()).micro_batches, 2);
}

TEST(Trainer, ChoosesMultiScaleSizesFromSeedAndStepInStridesWithinTheRange) {
  auto batches = tiny_batches(40, 1);
  TrainOptions o = options(1);
  o.multi_scale = 0.5;
  Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
  Recorder recorder;
  brim::Observer* observers[] = {&recorder};
  // Batch norm over one image of 1x1 would fail; 16x24 leaves more at every scale.
  trainer.fit(*brim::make_batch_source(batches), {}, observers);
  std::set<std::int64_t> widths;
  for (const brim::StepEvent& event : recorder.steps) {
    EXPECT_EQ(event.width % 8, 0);
    EXPECT_EQ(event.height % 8, 0);
    EXPECT_GE(event.width, 8);
    EXPECT_LE(event.width, 40);
    widths.insert(event.width);
  }
  EXPECT_GE(widths.size(), 3u);
}

TEST(Trainer, StopsEarlyWhenFitnessNoLongerGrows) {
  auto batches = tiny_batches(1, 8);
  TrainOptions o = options(50);
  o.patience = 3;
  Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
  int calls = 0;
  Recorder recorder;
  brim::Observer* observers[] = {&recorder};
  const brim::TrainResult result = trainer.fit(
      *brim::make_batch_source(batches),
      [&](brim::Network&) {
        ++calls;
        return brim::EvaluationSummary{{}, calls == 2 ? 1.0 : 0.5};
      },
      observers);
  EXPECT_EQ(result.reason, brim::EndReason::EarlyStop);
  EXPECT_EQ(result.best_epoch, 1);
  EXPECT_EQ(calls, 5);
  ASSERT_EQ(recorder.notes.size(), 1u);
  EXPECT_EQ(recorder.notes.back().kind, brim::Note::Kind::EarlyStop);
}

TEST(Trainer, TakesTheLaterOfEpochsThatAreEquallyGood) {
  auto batches = tiny_batches(1, 8);
  TrainOptions o = options(4);
  o.patience = 2;
  Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
  const brim::TrainResult result = trainer.fit(
      *brim::make_batch_source(batches), [](brim::Network&) { return brim::EvaluationSummary{}; });
  EXPECT_EQ(result.best_epoch, 3);
  EXPECT_EQ(result.reason, brim::EndReason::Finished);
}

TEST(Trainer, EvaluatesOnlyAtTheEndWhereAskedTo) {
  auto batches = tiny_batches(1, 8);
  TrainOptions o = options(4);
  o.evaluate_every = 0;
  int calls = 0;
  Trainer(network(), std::make_shared<TinyObjective>(), o)
      .fit(*brim::make_batch_source(batches), [&](brim::Network& net) {
        ++calls;
        EXPECT_FALSE(net.is_training());
        EXPECT_FALSE(torch::GradMode::is_enabled());
        return brim::EvaluationSummary{};
      });
  EXPECT_EQ(calls, 1);
}

TEST(Trainer, LeavesFrozenLayersAlone) {
  auto batches = tiny_batches(4, 8);
  const auto net = network();
  const torch::Tensor before = net->named_parameters()["conv.weight"].detach().clone();
  TrainOptions o = options(1);
  o.freeze = {"conv."};
  Trainer trainer(net, std::make_shared<TinyObjective>(), o);
  trainer.fit(*brim::make_batch_source(batches));
  EXPECT_TRUE(net->named_parameters()["conv.weight"].equal(before));
  o.freeze = {"backbone."};
  try {
    Trainer(network(), std::make_shared<TinyObjective>(), o);
    FAIL() << "no error";
  } catch (const brim::Error& error) {
    EXPECT_EQ(error.message(), "no parameter's name begins with 'backbone.'");
  }
}

/// Fails with an out-of-memory error for parts larger than `most`.
class HungryObjective : public TinyObjective {
 public:
  explicit HungryObjective(std::int64_t most) : most_(most) {}
  brim::LossResult loss(const brim::NetworkOutput& output, const TensorBatch& batch) override {
    if (batch.size() > most_)
      TORCH_CHECK_WITH(OutOfMemoryError, false, "pretended: no memory for ", batch.size());
    return TinyObjective::loss(output, batch);
  }

 private:
  std::int64_t most_;
};

TEST(Trainer, RepeatsAStepThatRanOutOfMemoryInSmallerParts) {
  auto batches = tiny_batches(3, 8);
  std::vector<brim::TensorMap> states;
  Recorder recorder;
  for (const std::int64_t most : {8, 3}) {
    torch::manual_seed(1);
    const auto net = std::make_shared<brim::test::PerImageNetwork>();
    Trainer trainer(net, std::make_shared<HungryObjective>(most), options(1));
    if (most == 3) {
      brim::Observer* observers[] = {&recorder};
      trainer.fit(*brim::make_batch_source(batches), {}, observers);
    } else {
      trainer.fit(*brim::make_batch_source(batches));
    }
    states.push_back(brim::state_of(*net));
  }
  for (const auto& [name, tensor] : states[0])
    EXPECT_TRUE(tensor.allclose(states[1].at(name), 1e-5, 1e-7)) << name;
  ASSERT_FALSE(recorder.notes.empty());
  EXPECT_EQ(recorder.notes[0].kind, brim::Note::Kind::OutOfMemory);
  EXPECT_EQ(recorder.steps[0].micro_batches, 4);
  EXPECT_EQ(std::count_if(
                recorder.notes.begin(), recorder.notes.end(),
                [](const brim::Note& note) { return note.kind == brim::Note::Kind::OutOfMemory; }),
            1);
}

/// Throws in its backward pass, after earlier layers have their gradients already.
TEST(Trainer, UndoesAHalfDoneStepWhenItFails) {
  auto batches = tiny_batches(2, 8);
  const auto net = network();
  TrainOptions o = options(1);
  o.nominal_batch = 64;
  const auto objective = std::make_shared<HungryObjective>(0);
  const auto good = std::make_shared<TinyObjective>();
  Trainer trainer(net, objective, o);
  const brim::TensorMap before = [&] {
    brim::TensorMap copy;
    for (const auto& [name, tensor] : brim::state_of(*net)) copy[name] = tensor.detach().clone();
    return copy;
  }();
  const torch::Tensor generator = trainer.checkpoint().generators.at("cpu");
  EXPECT_THROW(trainer.step(batches[0]), brim::Error);
  EXPECT_TRUE(equal(before, brim::state_of(*net)));
  EXPECT_TRUE(generator.equal(trainer.checkpoint().generators.at("cpu")));
  for (const torch::Tensor& p : net->parameters()) EXPECT_FALSE(p.grad().defined());
}

/// Gradients that are not finite.
class BrokenObjective : public TinyObjective {
 public:
  brim::LossResult loss(const brim::NetworkOutput& output, const TensorBatch& batch) override {
    brim::LossResult result = TinyObjective::loss(output, batch);
    result.total = result.total * std::nan("");
    return result;
  }
};

TEST(Trainer, EndsWithAnErrorWhenGradientsStayNotFinite) {
  auto batches = tiny_batches(10, 16);
  const auto net = network();
  const torch::Tensor before = net->named_parameters()["linear.weight"].detach().clone();
  TrainOptions o = options(1);
  o.not_finite_limit = 4;
  Trainer trainer(net, std::make_shared<BrokenObjective>(), o);
  Recorder recorder;
  brim::Observer* observers[] = {&recorder};
  EXPECT_THROW(trainer.fit(*brim::make_batch_source(batches), {}, observers), brim::Error);
  EXPECT_EQ(recorder.notes.size(), 4u);
  EXPECT_TRUE(net->named_parameters()["linear.weight"].equal(before));
}
}  // namespace
