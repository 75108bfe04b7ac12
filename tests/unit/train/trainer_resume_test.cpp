#include "brim/train/trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "brim/cache/error.h"
#include "support/test_data.h"
#include "support/tiny_trainer.h"

namespace {
using brim::Trainer;
using brim::TrainOptions;
using namespace brim::test;

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

INSTANTIATE_TEST_SUITE_P(At, TrainerResume, ::testing::Values(0, 3, 4, 6, 13));

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

TEST(Trainer, ResultsHaveLossesOfValidationBesideThoseOfTraining) {
  auto batches = tiny_batches(1, 8);
  const TempDir folder;
  const auto csv = brim::make_csv_writer(folder.file("results.csv"));
  brim::Observer* observers[] = {csv.get()};
  Trainer trainer(network(), std::make_shared<TinyObjective>(), options(1));
  trainer.fit(
      *brim::make_batch_source(batches),
      [](brim::Network&) {
        return brim::EvaluationSummary{{{"top1", 0.5}, {"val_cls", 2.0}}, 0.5};
      },
      observers);
  EXPECT_TRUE(read_file(folder.file("results.csv"))
                  .starts_with("epoch,train/cls,metrics/top1,val/cls,x/lr0,x/lr1,x/lr2\n0,"));
}

TEST(Trainer, LosesNoEpochWhoseEvaluationFails) {
  auto batches = tiny_batches(3, 8);
  const TempDir folder;
  const TrainOptions o = options(2, folder.path().string());
  Trainer failing(network(), std::make_shared<TinyObjective>(), o);
  const auto source = brim::make_batch_source(batches);
  EXPECT_THROW(failing.fit(*source,
                           [](brim::Network&) -> brim::EvaluationSummary {
                             throw brim::Error("no image can be read");
                           }),
               brim::Error);
  Trainer resumed(network(7), std::make_shared<TinyObjective>(), o);
  resumed.resume(folder.file("last.pt"));
  EXPECT_EQ(resumed.checkpoint().info.epoch, 1);
  resumed.fit(*source, loss_evaluator());
  Trainer whole(network(), std::make_shared<TinyObjective>(), options(2));
  whole.fit(*source, loss_evaluator());
  EXPECT_TRUE(equal(whole.checkpoint().model, resumed.checkpoint().model));
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
