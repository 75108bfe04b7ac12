// Bad input gets a message that says what, where and what to do, exit code 2, and loses nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "support/test_data.h"
#include "support/tiny_run.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// A tiny detection set of its own and the arguments of a two-step run on it.
class BadInput : public ::testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult made = make_tiny_set(folder_.file("set"), 12);
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }
  std::string data() const { return folder_.file("set/data.yaml"); }
  std::vector<std::string> train(std::vector<std::string> more = {}) const {
    auto words = tiny_train(data(), folder_.file("run"), {"--epochs", "1", "--max-steps", "2"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string first_file(const std::string& sub, const std::string& extension) const {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.file("set/" + sub))) {
      if (entry.path().extension() == extension) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files.at(0);
  }
  TempDir folder_;
};

void expect_refused(const ProcessResult& result, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, 2) << result.output << result.error;
  EXPECT_THAT(result.error, HasSubstr("error: "));
  for (const std::string& part : parts) EXPECT_THAT(result.error, HasSubstr(part));
}

TEST_F(BadInput, MissingDataFile) {
  auto words = train();
  words[2] = folder_.file("nowhere.yaml");
  expect_refused(run_brim(words), {"nowhere.yaml", "no such"});
}

TEST_F(BadInput, UnknownKeyInYaml) {
  write_file(folder_.file("experiment.yaml"), "train:\n  epochs: 1\n  leraning_rate: 0.1\n");
  expect_refused(run_brim(train({"--config", folder_.file("experiment.yaml")})),
                 {"experiment.yaml:3", "unknown key 'train.leraning_rate'"});
  write_file(folder_.file("near.yaml"), "train:\n  epoch: 1\n");
  expect_refused(run_brim(train({"--config", folder_.file("near.yaml")})),
                 {"near.yaml:2", "hint: the nearest known key is 'train.epochs'"});
}

TEST_F(BadInput, UnknownOverrideNamesTheNearestKey) {
  expect_refused(run_brim(train({"loader.cash=ram"})),
                 {"unknown key 'loader.cash'", "'loader.cache'"});
}

TEST_F(BadInput, ClassIdOutOfRange) {
  const std::string label = first_file("labels/train", ".txt");
  std::ofstream(label, std::ios::app) << "57 0.5 0.5 0.2 0.2\n";
  expect_refused(run_brim(train()), {fs::path(label).filename().string() + ":", "57"});
}

TEST_F(BadInput, LabelRowsThatAreNotLabelsAreNamedAndLeftOut) {
  const std::string label = first_file("labels/train", ".txt");
  const std::string before = read_file(label);
  write_file(label, before + "1 0.5 0.5 0.2\n2 nan 0.5 0.2 0.2\n");
  const auto rows = std::count(before.begin(), before.end(), '\n');
  const ProcessResult result = run_brim(train());
  const std::string name = fs::path(label).filename().string();
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr(name + ":" + std::to_string(rows + 1)));
  EXPECT_THAT(result.error, HasSubstr(name + ":" + std::to_string(rows + 2)));
}

TEST_F(BadInput, NoImagesFound) {
  fs::remove_all(folder_.file("set/images/train"));
  fs::create_directories(folder_.file("set/images/train"));
  expect_refused(run_brim(train()), {"no images", "images/train"});
}

TEST_F(BadInput, WeightsOfAnotherArchitecture) {
  auto first = train();
  ASSERT_EQ(run_brim(first).exit_code, 0);
  const std::string weights = folder_.file("run/last.pt");
  const std::string other_run = folder_.file("other");
  expect_refused(run_brim(train({"--model", "resnet18", "--task", "detect", "--weights", weights,
                                 "--output", other_run})),
                 {"resnet18"});
  write_file(folder_.file("other.pt"), read_file(weights));
  auto other =
      train({"--weights", folder_.file("other.pt"), "--model", "yolov5n6", "--output", other_run});
  const ProcessResult result = run_brim(other);
  // yolov5n6 shares its first layers with yolov5n: a partial transfer, said so
  EXPECT_THAT(result.output + result.error, HasSubstr("transferred"));
}

TEST_F(BadInput, ALineOfAListThatNamesNoImage) {
  ASSERT_EQ(run_brim(train()).exit_code, 0);
  write_file(folder_.file("list.txt"), first_file("images", ".jpg") + "\r\n\nnowhere.jpg\n");
  expect_refused(run_brim({"predict", "--weights", folder_.file("run/last.pt"), "--source",
                           folder_.file("list.txt"), "--output", folder_.file("p")}),
                 {"list.txt:3", "no such image", "nowhere.jpg"});
}

TEST_F(BadInput, LaunchingWhatCannotBeShared) {
  expect_refused(run_brim({"launch", "--nproc", "2", "--", "predict", "--source", "x"}),
                 {"can only train, found 'predict'"});
}

TEST_F(BadInput, ASizeThatTheWeightsCannotTake) {
  ASSERT_EQ(run_brim(train()).exit_code, 0);
  expect_refused(run_brim({"val", "--data", data(), "--weights", folder_.file("run/last.pt"),
                           "--img", "97", "--output", folder_.file("v")}),
                 {"train.img", "multiples of 32", "the next one is 128"});
}

TEST_F(BadInput, NoImageHasALabel) {
  for (const auto& entry : fs::recursive_directory_iterator(folder_.file("set/labels")))
    if (entry.path().extension() == ".txt") write_file(entry.path().string(), "");
  expect_refused(run_brim(train()), {"data.yaml", "no image has a label"});
}

TEST_F(BadInput, PredictingFromAKeyOfVal) {
  ASSERT_EQ(run_brim(train()).exit_code, 0);
  const std::vector<std::string> predict{"predict",  "--weights",       folder_.file("run/last.pt"),
                                         "--output", folder_.file("p"), "--source"};
  const auto with = [&](std::vector<std::string> more) {
    auto words = predict;
    words.insert(words.end(), more.begin(), more.end());
    return run_brim(words);
  };
  expect_refused(with({folder_.file("set/images/val"), "val.conf=0.1"}),
                 {"val.conf", "set predict.conf"});
  write_file(folder_.file("broken.jpg"), "GIF89a");
  expect_refused(with({folder_.file("broken.jpg")}), {"broken.jpg", "cannot be read: "});
  const ProcessResult all =
      with({first_file("images", ".jpg"),
            fs::path(first_file("images", ".jpg")).parent_path().string() + "/*.jpg",
            "predict.conf=0.9"});
  EXPECT_EQ(all.exit_code, 0) << all.error;
}

TEST_F(BadInput, UnwritableRunFolder) {
  write_file(folder_.file("file"), "not a folder");
  expect_refused(run_brim(train({"--output", folder_.file("file/run")})),
                 {"run folder", "hint: choose another with --output"});
}

TEST_F(BadInput, CorruptImageIsQuarantinedAndTheRunGoesOn) {
  const std::string image = first_file("images/train", ".jpg");
  const std::string before = read_file(image);
  write_file(image, before.substr(0, before.size() / 2));
  const ProcessResult result = run_brim(train({"--max-steps", "0", "loader.max_bad_fraction=0.5"}));
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(read_file(folder_.file("run/quarantine.tsv")),
              HasSubstr(fs::path(image).filename().string()));
  EXPECT_EQ(read_file(image), before.substr(0, before.size() / 2)) << "user files stay as they are";
}

TEST_F(BadInput, CorruptValidationImageIsNamedAndInNoFigure) {
  const std::string image = first_file("images/val", ".jpg");
  fs::copy_file(image, fs::path(image).replace_filename("another.jpg"));
  write_file(image, "this is not a picture");
  const ProcessResult result = run_brim(train({"train.val=true", "loader.max_bad_fraction=0.9"}));
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(result.error, AllOf(HasSubstr(fs::path(image).filename().string()),
                                  HasSubstr("unreadable images of the validation data")));
}

TEST_F(BadInput, ClassesInAnotherOrderThanTheWeightsHave) {
  ASSERT_EQ(run_brim(train()).exit_code, 0);
  std::string yaml = read_file(data());
  const std::size_t names = yaml.find("names:");
  ASSERT_NE(names, std::string::npos);
  const std::size_t first = yaml.find("t-shirt/top", names), second = yaml.find("trouser", names);
  ASSERT_LT(first, second) << yaml;
  yaml.replace(second, 7, "t-shirt/top");
  yaml.replace(first, 11, "trouser");
  write_file(data(), yaml);
  expect_refused(run_brim({"val", "--data", data(), "--img", "64", "--weights",
                           folder_.file("run/last.pt"), "--output", folder_.file("v")}),
                 {"class 0 is", "hint:"});
}

TEST_F(BadInput, TooManyCorruptImagesEndTheRun) {
  for (const auto& entry : fs::recursive_directory_iterator(folder_.file("set/images/train"))) {
    if (entry.is_directory()) continue;
    write_file(entry.path().string(), "this is not a picture");
  }
  expect_refused(run_brim(train()), {"images/train", "hint:"});
}

TEST_F(BadInput, CheckpointCutShort) {
  ASSERT_EQ(run_brim(train()).exit_code, 0);
  const std::string whole = read_file(folder_.file("run/last.pt"));
  write_file(folder_.file("run/last.pt"), whole.substr(0, whole.size() / 2));
  expect_refused(run_brim({"train", "--resume", folder_.file("run/last.pt")}), {"last.pt"});
  expect_refused(run_brim({"val", "--data", data(), "--img", "64", "--weights",
                           folder_.file("run/last.pt"), "--output", folder_.file("v")}),
                 {"last.pt"});
}

TEST_F(BadInput, UnknownCommandsAndOptionsAreRefused) {
  expect_refused(run_brim({"trian"}), {"trian", "hint: 'brim --help'"});
  expect_refused(run_brim({"train", "--no-such-option"}),
                 {"--no-such-option", "hint: 'brim train --help'"});
  expect_refused(run_brim({}), {"hint:"});
}

TEST_F(BadInput, ABudgetTooSmallIsRefused) {
  expect_refused(run_brim(train({"--memory", "1MiB"})), {"hint:"});
}

}  // namespace
}  // namespace brim::test
