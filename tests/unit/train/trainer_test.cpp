#include "brim/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "brim/cache/error.h"
#include "brim/train/cpu_allocator.h"
#include "support/test_data.h"
#include "support/tiny_training.h"

namespace {
using brim::TensorBatch;
using brim::Trainer;
using brim::TrainOptions;
using brim::test::TempDir;
using brim::test::tiny_batches;
using brim::test::TinyNetwork;
using brim::test::TinyObjective;

struct Recorder : brim::Observer {
  std::vector<brim::StepEvent> steps;
  std::vector<brim::EpochEvent> epochs;
  std::vector<brim::Note> notes;
  std::vector<brim::EndEvent> ends;
  std::atomic<bool>* stop = nullptr;
  std::int64_t stop_after = -1;
  void on_step(const brim::StepEvent& event) override {
    steps.push_back(event);
    if (stop != nullptr && event.step == stop_after) *stop = true;
  }
  void on_epoch(const brim::EpochEvent& event) override { epochs.push_back(event); }
  void on_note(const brim::Note& note) override { notes.push_back(note); }
  void on_end(const brim::EndEvent& event) override { ends.push_back(event); }
};

/// Fixed threads and seeds; options that fit the tiny batches.
TrainOptions options(int epochs, const std::string& folder = {}) {
  at::set_num_threads(1);
  TrainOptions o;
  o.epochs = epochs;
  o.batch_size = 8;
  o.nominal_batch = 16;
  o.precision = brim::Precision::Fp32;
  o.folder = folder;
  return o;
}

std::shared_ptr<TinyNetwork> network(std::uint64_t seed = 1) {
  torch::manual_seed(seed);
  return std::make_shared<TinyNetwork>();
}

brim::Evaluator loss_evaluator() {
  return [](brim::Network& net) {
    const TensorBatch batch = tiny_batches(1, 16, 99)[0];
    const torch::Tensor logits = net.forward(brim::normalize_images(batch.images)).predictions;
    const double loss =
        torch::nn::functional::cross_entropy(logits, batch.class_ids).item<double>();
    return brim::EvaluationSummary{{{"loss", loss}}, -loss};
  };
}

bool equal(const brim::TensorMap& a, const brim::TensorMap& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a)
    if (!tensor.equal(b.at(name))) return false;
  return true;
}

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

/// The uninterrupted run against one that is stopped after `stop_after` batches and resumed in a
/// new Trainer: the same parameters, averages and losses, bit by bit.
class TrainerResume : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(TrainerResume, IsBitIdenticalToTheUninterruptedRun) {
  auto batches = tiny_batches(5, 8);
  const TempDir whole_folder, cut_folder;
  const auto run = [&](Trainer& trainer, Recorder& recorder) {
    brim::Observer* observers[] = {&recorder};
    return trainer.fit(*brim::make_batch_source(batches), loss_evaluator(), observers);
  };
  TrainOptions o = options(3, whole_folder.path().string());
  o.multi_scale = 0.5;
  o.optimizer.kind = GetParam() % 2 == 0 ? brim::OptimizerKind::Sgd : brim::OptimizerKind::AdamW;
  Recorder whole;
  Trainer uninterrupted(network(), std::make_shared<TinyObjective>(), o);
  run(uninterrupted, whole);

  o.folder = cut_folder.path().string();
  std::atomic<bool> stop{false};
  o.stop = &stop;
  Recorder first, second;
  first.stop = &stop;
  first.stop_after = GetParam();
  Trainer before(network(), std::make_shared<TinyObjective>(), o);
  EXPECT_EQ(run(before, first).reason, brim::EndReason::Stopped);
  stop = false;
  Trainer after(network(77), std::make_shared<TinyObjective>(), o);
  after.resume(cut_folder.file("last.pt"));
  EXPECT_EQ(run(after, second).reason, brim::EndReason::Finished);

  const brim::Checkpoint a = uninterrupted.checkpoint(), b = after.checkpoint();
  EXPECT_TRUE(equal(a.model, b.model));
  EXPECT_TRUE(equal(a.ema, b.ema));
  EXPECT_TRUE(equal(a.optimizer, b.optimizer));
  EXPECT_EQ(a.info.best_fitness, b.info.best_fitness);
  EXPECT_EQ(first.steps.size() + second.steps.size(), whole.steps.size());
  EXPECT_EQ(whole.epochs.back().mean_components, second.epochs.back().mean_components);
  EXPECT_EQ(second.steps.front().step, GetParam() + 1);
}

/// A run that ends without a word after step 7 loses what came after its last checkpoint alone.
TEST(Trainer, WritesCheckpointsWithinAnEpochThatResumeBitIdentically) {
  struct Killer : brim::Observer {
    void on_step(const brim::StepEvent& event) override {
      if (event.step == 7) throw std::runtime_error("killed");
    }
  };
  auto batches = tiny_batches(5, 8);
  const TempDir folder;
  TrainOptions o = options(3);
  o.precise_bn = 16;
  Trainer uninterrupted(network(), std::make_shared<TinyObjective>(), o);
  uninterrupted.fit(*brim::make_batch_source(batches), loss_evaluator());

  o.folder = folder.path().string();
  o.checkpoint_minutes = 1e-12;
  Killer killer;
  brim::Observer* observers[] = {&killer};
  Trainer killed(network(), std::make_shared<TinyObjective>(), o);
  EXPECT_THROW(killed.fit(*brim::make_batch_source(batches), loss_evaluator(), observers),
               std::runtime_error);
  const brim::Checkpoint saved = brim::load_checkpoint(folder.file("last.pt"));
  EXPECT_EQ(saved.info.epoch, 1);
  EXPECT_EQ(saved.info.batch, 2);
  Trainer resumed(network(77), std::make_shared<TinyObjective>(), o);
  resumed.resume(folder.file("last.pt"));
  resumed.fit(*brim::make_batch_source(batches), loss_evaluator());
  const brim::Checkpoint a = uninterrupted.checkpoint(), b = resumed.checkpoint();
  EXPECT_TRUE(equal(a.model, b.model));
  EXPECT_TRUE(equal(a.ema, b.ema));
  EXPECT_TRUE(equal(a.optimizer, b.optimizer));
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

TEST(Trainer, WritesNoCheckpointWithinAnEpochUnlessItsTimeHasCome) {
  struct Looker : brim::Observer {
    std::string path;
    int found = 0;
    void on_step(const brim::StepEvent& event) override {
      if (event.epoch == 0 && std::filesystem::exists(path)) ++found;
    }
  };
  auto batches = tiny_batches(4, 8);
  for (const double minutes : {0.0, 10.0}) {
    const TempDir folder;
    TrainOptions o = options(1, folder.path().string());
    o.checkpoint_minutes = minutes;
    Looker looker;
    looker.path = folder.file("last.pt");
    brim::Observer* observers[] = {&looker};
    Trainer(network(), std::make_shared<TinyObjective>(), o)
        .fit(*brim::make_batch_source(batches), {}, observers);
    EXPECT_EQ(looker.found, 0);
    EXPECT_TRUE(std::filesystem::exists(looker.path));
  }
}

TEST(Trainer, KeepsACheckpointOfEveryPeriod) {
  auto batches = tiny_batches(1, 8);
  const TempDir folder;
  TrainOptions o = options(5, folder.path().string());
  o.save_period = 2;
  Trainer(network(), std::make_shared<TinyObjective>(), o).fit(*brim::make_batch_source(batches));
  EXPECT_EQ(brim::load_checkpoint(folder.file("epoch2.pt")).info.epoch, 2);
  EXPECT_EQ(brim::load_checkpoint(folder.file("epoch4.pt")).info.epoch, 4);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 4);
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

INSTANTIATE_TEST_SUITE_P(At, TrainerResume, ::testing::Values(0, 3, 4, 6, 13));

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

TEST(Trainer, StopsAtMaxStepsAndGoesOnFromThere) {
  auto batches = tiny_batches(5, 8);
  const TempDir folder;
  TrainOptions o = options(3, folder.path().string());
  o.max_steps = 7;
  Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
  const brim::TrainResult result = trainer.fit(*brim::make_batch_source(batches), loss_evaluator());
  EXPECT_EQ(result.reason, brim::EndReason::MaxSteps);
  EXPECT_EQ(result.steps, 7);
  EXPECT_EQ(result.last.metrics.size(), 1u);
  const brim::Checkpoint saved = brim::load_checkpoint(folder.file("last.pt"));
  EXPECT_EQ(saved.info.epoch, 1);
  EXPECT_EQ(saved.info.batch, 2);
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

TEST(Trainer, RefusesToResumeAnotherRun) {
  auto batches = tiny_batches(2, 8);
  const TempDir folder;
  TrainOptions o = options(1, folder.path().string());
  o.data_id = "garments";
  Trainer(network(), std::make_shared<TinyObjective>(), o).fit(*brim::make_batch_source(batches));
  o.data_id = "cells";
  Trainer other(network(), std::make_shared<TinyObjective>(), o);
  try {
    other.resume(folder.file("last.pt"));
    FAIL() << "no error";
  } catch (const brim::Error& error) {
    EXPECT_EQ(error.message(),
              "cannot resume: the checkpoint has data 'garments', this run 'cells'");
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

TEST(Trainer, WritesResultsThatAResumedRunAppendsTo) {
  auto batches = tiny_batches(2, 8);
  const TempDir folder;
  for (int part = 0; part < 2; ++part) {
    TrainOptions o = options(part + 1, folder.path().string());
    Trainer trainer(network(), std::make_shared<TinyObjective>(), o);
    if (part == 1) trainer.resume(folder.file("last.pt"));
    const auto csv = brim::make_csv_writer(folder.file("results.csv"));
    const auto jsonl = brim::make_jsonl_writer(folder.file("metrics.jsonl"), 1);
    brim::Observer* observers[] = {csv.get(), jsonl.get()};
    trainer.fit(*brim::make_batch_source(batches), loss_evaluator(), observers);
  }
  const std::string csv = brim::test::read_file(folder.file("results.csv"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
  EXPECT_TRUE(csv.starts_with("epoch,train/cls,metrics/loss,x/lr0,x/lr1,x/lr2\n0,")) << csv;
  EXPECT_NE(csv.find("\n1,"), std::string::npos);
  const std::string lines = brim::test::read_file(folder.file("metrics.jsonl"));
  EXPECT_NE(lines.find("\"event\":\"end\""), std::string::npos);

  // Without an evaluation the columns stay where they are, and the best weights the best.
  const std::string best = brim::test::read_file(folder.file("best.pt"));
  Trainer trainer(network(), std::make_shared<TinyObjective>(), options(3, folder.path().string()));
  trainer.resume(folder.file("last.pt"));
  const auto more = brim::make_csv_writer(folder.file("results.csv"));
  brim::Observer* observers[] = {more.get()};
  trainer.fit(*brim::make_batch_source(batches), {}, observers);
  const std::string longer = brim::test::read_file(folder.file("results.csv"));
  ASSERT_TRUE(longer.starts_with(csv));
  const std::string row = longer.substr(csv.size());
  EXPECT_TRUE(row.starts_with("2,")) << row;
  EXPECT_EQ(std::count(row.begin(), row.end(), ','), 5) << row;
  EXPECT_NE(row.find(",,"), std::string::npos) << row;
  EXPECT_EQ(brim::test::read_file(folder.file("best.pt")), best);

  // A training from the beginning has no part in what an earlier one wrote.
  const auto fresh = brim::make_csv_writer(folder.file("results.csv"));
  Trainer anew(network(), std::make_shared<TinyObjective>(), options(1));
  brim::Observer* one[] = {fresh.get()};
  anew.fit(*brim::make_batch_source(batches), loss_evaluator(), one);
  const std::string begun = brim::test::read_file(folder.file("results.csv"));
  EXPECT_EQ(std::count(begun.begin(), begun.end(), '\n'), 2) << begun;
}
}  // namespace
