// What a run leaves in its folder: one run's results, of the weights they are said to be of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/test_data.h"
#include "support/tiny_run.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class RunFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult made = make_tiny_set(folder_.file("set"), 20);
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }
  std::string data() const { return folder_.file("set/data.yaml"); }
  std::string run() const { return folder_.file("runs/one"); }
  ProcessResult train(const std::vector<std::string>& more) const {
    return run_brim(tiny_train(data(), run(), more));
  }
  TempDir folder_;
};

TEST_F(RunFolder, ThatHoldsATrainingIsNotUsedForAnother) {
  ASSERT_EQ(train({"--epochs", "2"}).exit_code, 0);
  const std::string results = read_file(run() + "/results.csv");
  const std::string weights = read_file(run() + "/last.pt");
  const ProcessResult refused = train({"--epochs", "1"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.error, HasSubstr(run() + ": the run folder holds results already"));
  EXPECT_THAT(refused.error, HasSubstr("--exist-ok"));
  EXPECT_EQ(read_file(run() + "/results.csv"), results);
  EXPECT_EQ(read_file(run() + "/last.pt"), weights);

  ASSERT_EQ(train({"--epochs", "1", "--exist-ok"}).exit_code, 0);
  EXPECT_EQ(lines_of(run() + "/results.csv").size(), 2u);  // the header and its one epoch
  const auto events = lines_of(run() + "/metrics.jsonl");
  EXPECT_EQ(
      std::count_if(events.begin(), events.end(),
                    [](const std::string& line) { return json::parse(line)["event"] == "start"; }),
      1);
}

TEST_F(RunFolder, OfACommandThatFailsGoesAgain) {
  const ProcessResult refused = train({"--img", "70"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.error, HasSubstr("multiples of 32"));
  EXPECT_FALSE(fs::exists(run())) << "made for the run";
  fs::create_directories(run());
  EXPECT_EQ(train({"--img", "70"}).exit_code, 2);
  EXPECT_TRUE(fs::exists(run())) << "was there before";
  write_file(folder_.file("broken.pt"), "no weights");
  EXPECT_EQ(run_brim({"val", "--data", data(), "--weights", folder_.file("broken.pt"), "--output",
                      folder_.file("v")})
                .exit_code,
            2);
  EXPECT_FALSE(fs::exists(folder_.file("v")));
}

TEST_F(RunFolder, KeepsAnEarlierTrainingUntilTheNewOneHasMadeAStep) {
  ASSERT_EQ(train({"--epochs", "1"}).exit_code, 0);
  const std::string weights = read_file(run() + "/best.pt");
  EXPECT_EQ(train({"--exist-ok", "--img", "70"}).exit_code, 2);
  EXPECT_EQ(read_file(run() + "/best.pt"), weights);
  write_file(run() + "/epoch7.pt", "of the earlier training");
  write_file(run() + "/notes.txt", "the user's");
  const std::string start = run() + "/best.pt";
  ASSERT_EQ(train({"--exist-ok", "--epochs", "1", "--weights", start}).exit_code, 0);
  EXPECT_FALSE(fs::exists(run() + "/epoch7.pt"));
  EXPECT_TRUE(fs::exists(run() + "/notes.txt"));
  EXPECT_NE(read_file(run() + "/best.pt"), weights);
  EXPECT_THAT(read_file(run() + "/config.yaml"), HasSubstr("exist_ok: false"));
}

TEST_F(RunFolder, SaysWhereItsBestWeightsAreOfAnEarlierSession) {
  const std::vector<std::string> words{"train",
                                       "--data",
                                       data(),
                                       "--model",
                                       "yolov5n",
                                       "--img",
                                       "64",
                                       "--batch",
                                       "2",
                                       "--workers",
                                       "1",
                                       "--noplots",
                                       "--output",
                                       run(),
                                       "--epochs",
                                       "1",
                                       "data.index_dir=none"};
  ASSERT_EQ(run_brim(words).exit_code, 0);
  fs::create_directory(folder_.file("moved"));
  fs::copy(run() + "/last.pt", folder_.file("moved/last.pt"));
  // Nothing is learnt any more, so no epoch is better, and best.pt is not there.
  const ProcessResult resumed = run_brim({"train", "--resume", folder_.file("moved"), "--epochs",
                                          "2", "train.lr0=0", "train.warmup_bias_lr=0"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.error;
  EXPECT_THAT(resumed.output,
              ::testing::AnyOf(HasSubstr("epoch 2 (best.pt is of epoch 1; brim val"),
                               HasSubstr("best.pt, of epoch 2:")));
}

TEST_F(RunFolder, OfPredictionsAndFiguresIsNotUsedTwiceEither) {
  ASSERT_EQ(train({"--epochs", "1"}).exit_code, 0);
  const std::string weights = run() + "/last.pt", images = folder_.file("set/images/val");
  const std::vector<std::string> val{"val",
                                     "--data",
                                     data(),
                                     "--weights",
                                     weights,
                                     "--noplots",
                                     "data.index_dir=none",
                                     "--output",
                                     folder_.file("v")};
  const std::vector<std::string> predict{"predict", "--weights", weights,          "--source",
                                         images,    "--output",  folder_.file("p")};
  for (auto words : {val, predict}) {
    const ProcessResult first = run_brim(words);
    EXPECT_EQ(first.exit_code, 0) << first.error;
    const ProcessResult second = run_brim(words);
    EXPECT_EQ(second.exit_code, 2);
    EXPECT_THAT(second.error, HasSubstr("holds results already"));
    words.push_back("--exist-ok");
    EXPECT_EQ(run_brim(words).exit_code, 0);
  }
  for (const json& one : json::parse(read_file(folder_.file("p/predictions.json"))))
    EXPECT_TRUE(fs::exists(folder_.file("p/labels/" + one["name"].get<std::string>() + ".txt")));
}

TEST_F(RunFolder, IsThatOfTheRunWhichGoesOn) {
  ASSERT_EQ(train({"--epochs", "1"}).exit_code, 0);
  const ProcessResult elsewhere =
      run_brim({"train", "--resume", run(), "--epochs", "2", "--output", folder_.file("other")});
  EXPECT_EQ(elsewhere.exit_code, 2);
  EXPECT_THAT(elsewhere.error, HasSubstr("goes on in its own folder"));
  const ProcessResult finished = run_brim({"train", "--resume", run()});
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(finished.error, HasSubstr("the training is finished: 1 of 1 epochs"));
  EXPECT_THAT(finished.error, HasSubstr("--epochs 2"));
}

TEST_F(RunFolder, HasOneRowForAnEpochThatWasStoppedAndResumed) {
  ASSERT_EQ(train({"--epochs", "2", "--max-steps", "10"}).exit_code, 0);
  ASSERT_EQ(lines_of(run() + "/results.csv").size(), 3u) << "the second epoch ended early";
  const ProcessResult resumed = run_brim({"train", "--resume", run(), "train.max_steps=0"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.error;
  const auto rows = lines_of(run() + "/results.csv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_THAT(rows[1], ::testing::StartsWith("0,"));
  EXPECT_THAT(rows[2], ::testing::StartsWith("1,"));
}

TEST_F(RunFolder, EndsWithTheFiguresOfItsBestWeights) {
  const std::string set = folder_.file("classes");
  ASSERT_EQ(run_brim({"data", "make", "--task", "classify", "--images", "60", "--size", "48",
                      "--out", set, "--seed", "3"})
                .exit_code,
            0);
  // Steps far too long: what an epoch learns is lost in the next.
  json result;
  for (int seed = 0; seed < 5; ++seed) {
    const ProcessResult ended = run_brim({"train",
                                          "--data",
                                          set,
                                          "--model",
                                          "resnet18",
                                          "--img",
                                          "32",
                                          "--batch",
                                          "8",
                                          "--workers",
                                          "1",
                                          "--noplots",
                                          "--output",
                                          run(),
                                          "--exist-ok",
                                          "--epochs",
                                          "3",
                                          "--json",
                                          "data.index_dir=none",
                                          "train.lr0=0.2",
                                          "train.warmup_epochs=0",
                                          "--seed",
                                          std::to_string(seed)});
    ASSERT_EQ(ended.exit_code, 0) << ended.error;
    result = json::parse(ended.output);
    if (result["best_epoch"] < 3 && result["best_metrics"] != result["metrics"]) break;
  }
  ASSERT_NE(result["best_metrics"], result["metrics"]) << "no run shows the difference";
  const ProcessResult measured =
      run_brim({"val", "--data", set, "--weights", run() + "/best.pt", "--batch", "8", "--noplots",
                "--json", "--output", folder_.file("v"), "data.index_dir=none"});
  ASSERT_EQ(measured.exit_code, 0) << measured.error;
  for (const auto& [name, value] : json::parse(measured.output)["metrics"].items())
    EXPECT_EQ(result["best_metrics"][name], value) << name;
  EXPECT_TRUE(fs::exists(folder_.file("v/metrics.json")));
}

}  // namespace
}  // namespace brim::test
