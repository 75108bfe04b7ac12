#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "brim/train/checkpoint.h"
#include "launcher.h"
#include "support/ports.h"
#include "support/process.h"
#include "support/tar_files.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

/// What sums in another order may change in the weights of these short trainings.
constexpr double kRounding = 2e-5;

class Launch : public testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult made = run_brim({"data", "make", "--task", "detect", "--images", "20",
                                         "--size", "96", "--out", dir.file("set"), "--seed", "3"});
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }

  std::vector<std::string> train(const std::string& folder,
                                 const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"train",
                                   "--data",
                                   dir.file("set/data.yaml"),
                                   "--model",
                                   "yolov5n",
                                   "--img",
                                   "64",
                                   "--batch",
                                   "4",
                                   "--epochs",
                                   "2",
                                   "--workers",
                                   "1",
                                   "--noplots",
                                   "--output",
                                   dir.file(folder),
                                   "data.index_dir=none",
                                   "train.nominal_batch=8",
                                   "train.threads=1",
                                   "train.lr0=0.0002",  // rounding grows with the rate
                                   "train.warmup_epochs=0"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static std::vector<std::string> launched(int ranks, const std::vector<std::string>& command) {
    std::vector<std::string> words{"launch", "--nproc", std::to_string(ranks), "--"};
    words.insert(words.end(), command.begin(), command.end());
    return words;
  }
  Checkpoint last(const std::string& folder) const {
    return load_checkpoint(dir.file(folder + "/last.pt"));
  }
  static double difference(const TensorMap& a, const TensorMap& b) {
    double most = 0;
    for (const auto& [name, tensor] : a)
      most = std::max(
          most,
          (tensor.to(torch::kDouble) - b.at(name).to(torch::kDouble)).abs().max().item<double>());
    return most;
  }

  TempDir dir;
};

TEST_F(Launch, TwoRanksTrainLikeOneProcess) {
  const ProcessResult one = run_brim(train("one"));
  ASSERT_EQ(one.exit_code, 0) << one.error;
  const ProcessResult two = run_brim(launched(2, train("two")));
  ASSERT_EQ(two.exit_code, 0) << two.error << two.output;
  const Checkpoint a = last("one"), b = last("two");
  EXPECT_EQ(a.info.step, b.info.step);
  EXPECT_LE(difference(a.model, b.model), kRounding);
  EXPECT_LE(difference(a.ema, b.ema), kRounding) << "batch-norm statistics of the averages";
  EXPECT_NEAR(a.info.best_fitness, b.info.best_fitness, 1e-3);
}

TEST_F(Launch, BadFilesOfEveryRankAreListedOnce) {
  std::vector<std::string> images;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(dir.file("set/images/train")))
    if (entry.is_regular_file()) images.push_back(entry.path().string());
  std::sort(images.begin(), images.end());
  for (int i = 0; i < 4; ++i) write_file(images.at(static_cast<std::size_t>(4 * i)), "no image");
  for (const std::string epochs : {"1", "2"}) {  // in the second each meets what the other has
    const std::string folder = "bad" + epochs;
    const ProcessResult ran = run_brim(launched(
        2,
        train(folder, {"--noval", "--epochs", epochs, "augment.mosaic=0", "train.precise_bn=0"})));
    ASSERT_EQ(ran.exit_code, 0) << ran.error << ran.output;
    EXPECT_NE(ran.error.find("4 unreadable images were replaced"), std::string::npos) << ran.error;
    const std::string list = read_file(dir.file(folder + "/quarantine.tsv"));
    EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), 5) << list;  // with a header
    for (std::size_t i = 0; i < 4; ++i)
      EXPECT_NE(list.find(images[4 * i] + "\t"), std::string::npos) << images[4 * i] << list;
  }
}

TEST_F(Launch, AnyNumberOfRanksGoesOnAtTheSameSample) {
  const ProcessResult whole = run_brim(train("whole", {"--noval"}));
  ASSERT_EQ(whole.exit_code, 0) << whole.error;
  // Three batches into the first epoch: inside an accumulation window.
  const ProcessResult begun =
      run_brim(launched(2, train("begun", {"--noval", "train.max_steps=3"})));
  ASSERT_EQ(begun.exit_code, 0) << begun.error;
  ASSERT_EQ(last("begun").info.batch, 3);
  const Checkpoint expected = last("whole");
  const ProcessResult other = run_brim(train("other", {"--noval", "augment.fliplr=0"}));
  ASSERT_EQ(other.exit_code, 0) << other.error;
  EXPECT_GT(difference(expected.model, last("other").model), 5 * kRounding)
      << "samples that differ do not show";
  for (const int ranks : {1, 2, 4}) {
    const std::string folder = "resumed" + std::to_string(ranks);
    std::filesystem::copy(dir.file("begun"), dir.file(folder));
    const ProcessResult resumed = run_brim(
        launched(ranks, {"train", "--resume", dir.file(folder + "/last.pt"), "train.max_steps=0"}));
    ASSERT_EQ(resumed.exit_code, 0) << resumed.error << resumed.output;
    EXPECT_EQ(last(folder).info.step, expected.info.step);
    EXPECT_LE(difference(expected.model, last(folder).model), kRounding) << ranks << " ranks";
  }
}

/// Two ranks that were started by hand, each with words of its own after `train`.
std::vector<ProcessResult> two_ranks(const std::vector<std::string>& first,
                                     const std::vector<std::string>& second,
                                     const ProcessOptions& options = {}) {
  const int port = cli::free_port();
  std::vector<ProcessResult> results(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      ProcessOptions own = options;
      own.before = as_rank(rank, 2, port);
      results[static_cast<std::size_t>(rank)] = run_brim(rank == 0 ? first : second, own);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

TEST_F(Launch, TheVariablesOfTorchrunMakeRanks) {
  const auto results = two_ranks(train("by_hand", {"--noval"}), train("by_hand", {"--noval"}));
  for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_EQ(last("by_hand").info.step, 10);
  EXPECT_NE(results[0].output.find("finished after 10 steps"), std::string::npos);
  EXPECT_EQ(results[1].output, "") << "rank 0 speaks for all";
}

/// Machines with shards of their own: each runs in a folder that holds no others.
class Shards : public Launch {
 protected:
  /// Of `counts[i]` pictures shard i is made, for machine i mod 2.
  void deal_out(const std::vector<int>& counts) {
    std::vector<std::filesystem::path> pictures;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(dir.file("set/images/train")))
      if (entry.is_regular_file()) pictures.push_back(entry.path());
    std::sort(pictures.begin(), pictures.end());
    std::size_t next = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      TarFiles files;
      for (int n = 0; n < counts[i]; ++n) {
        const std::filesystem::path& picture = pictures.at(next++);
        const std::string stem = picture.stem().string();
        files.emplace_back(stem + ".jpg", read_file(picture.string()));
        std::string labels = picture.string();
        labels.replace(labels.find("set/images"), 10, "set/labels");
        labels.replace(labels.size() - 4, 4, ".txt");
        files.emplace_back(stem + ".txt", read_file(labels));
      }
      write_file(machine(i % 2) + "/train-" + std::to_string(i) + ".tar", tar_archive(files));
    }
    for (std::size_t m = 0; m < 2; ++m)
      write_file(machine(m) + "/classes.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
  }
  std::string machine(std::size_t number) const {
    return dir.file("machine" + std::to_string(number));
  }
  std::vector<std::string> divided(const std::string& folder,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words =
        train(folder, {"--noval", "data.sharding=shard", "output.log_steps=1", "--data"});
    words.push_back("train-{0..3}.tar");
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  struct Step {
    std::int64_t images;
    std::vector<double> losses;
  };
  std::vector<Step> steps(const std::string& folder) const {
    std::vector<Step> all;
    std::ifstream lines(dir.file(folder + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto event = nlohmann::json::parse(line);
      if (event.at("event") == "step")
        all.push_back({event.at("images"), event.at("losses").get<std::vector<double>>()});
    }
    return all;
  }
  /// Largest difference of a loss, relative to the sum of its step's.
  static double difference(const std::vector<Step>& a, const std::vector<Step>& b) {
    EXPECT_EQ(a.size(), b.size());
    double most = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      const double sum = std::accumulate(b[i].losses.begin(), b[i].losses.end(), 0.0);
      for (std::size_t k = 0; k < b[i].losses.size(); ++k)
        most = std::max(most, std::abs(a[i].losses.at(k) - b[i].losses[k]) / sum);
    }
    return most;
  }
  std::vector<ProcessResult> two_machines(const std::vector<std::string>& words,
                                          int ranks_of_each = 1) const {
    const int port = cli::free_port(), size = 2 * ranks_of_each;
    std::vector<ProcessResult> results(static_cast<std::size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        results[static_cast<std::size_t>(rank)] =
            run_brim(words, {.directory = machine(static_cast<std::size_t>(rank / ranks_of_each)),
                             .before = as_rank_of_machines(rank, size, ranks_of_each, port)});
      });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }
};

TEST_F(Shards, EveryMachineTrainsOnItsOwnAndAllImagesCount) {
  deal_out({6, 5, 4, 2});
  const auto results = two_machines(divided("whole"));
  for (const ProcessResult& result : results) ASSERT_EQ(result.exit_code, 0) << result.error;
  EXPECT_NE(results[0].output.find("2 machines have 10, 7 images of their own"), std::string::npos)
      << results[0].output;
  const std::vector<Step> whole = steps("whole");
  ASSERT_EQ(whole.size(), 2 * 5u) << "the larger part makes the epoch, two images a rank";
  std::int64_t images = 0;
  for (const Step& step : whole) images += step.images;
  EXPECT_EQ(images, 2 * 17) << "what fills up the smaller part does not count";

  const auto begun = two_machines(divided("begun", {"train.max_steps=3"}));
  for (const ProcessResult& result : begun) ASSERT_EQ(result.exit_code, 0) << result.error;
  for (const int ranks : {1, 2}) {
    const std::string folder = "resumed" + std::to_string(ranks);
    std::filesystem::copy(dir.file("begun"), dir.file(folder));
    const auto resumed = two_machines(
        {"train", "--resume", dir.file(folder + "/last.pt"), "train.max_steps=0"}, ranks);
    for (const ProcessResult& result : resumed) ASSERT_EQ(result.exit_code, 0) << result.error;
    EXPECT_LT(difference(steps(folder), whole), 0.003) << ranks << " ranks of each";
  }
  const auto other = two_machines(divided("other", {"augment.mosaic=0"}));
  for (const ProcessResult& result : other) ASSERT_EQ(result.exit_code, 0) << result.error;
  EXPECT_GT(difference(steps("other"), whole), 0.02) << "samples that differ do not show";
}

TEST_F(Shards, OfAnotherNumberOfMachinesAreNoResume) {
  deal_out({4, 2, 2, 2});
  const auto begun = two_machines(divided("begun", {"train.max_steps=2"}));
  for (const ProcessResult& result : begun) ASSERT_EQ(result.exit_code, 0) << result.error;
  for (const char* file : {"/train-1.tar", "/train-3.tar"})
    std::filesystem::copy(machine(1) + file, machine(0) + file);
  const ProcessResult alone =
      run_brim({"train", "--resume", dir.file("begun/last.pt")}, {.directory = machine(0)});
  EXPECT_EQ(alone.exit_code, 2);
  EXPECT_NE(alone.error.find("cannot resume: the checkpoint has data"), std::string::npos)
      << alone.error;
}

TEST_F(Shards, WithOtherClassesAreRefused) {
  deal_out({4, 2, 2, 2});
  write_file(machine(1) + "/classes.txt", "z\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
  for (const ProcessResult& result : two_machines(divided("refused"))) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.error.find("classes.txt"), std::string::npos) << result.error;
  }
}

TEST_F(Launch, RanksWithOtherSettingsAreRefused) {
  const auto results =
      two_ranks(train("mixed", {"train.lr0=0.01"}), train("mixed", {"train.lr0=0.02"}));
  for (const ProcessResult& result : results) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.error.find("lr0: 0.02"), std::string::npos) << result.error;
    EXPECT_NE(result.error.find("hint:"), std::string::npos) << result.error;
  }
}

TEST_F(Launch, RanksWithOtherDataAreRefused) {
  const ProcessResult made = run_brim({"data", "make", "--task", "detect", "--images", "21",
                                       "--size", "96", "--out", dir.file("other"), "--seed", "4"});
  ASSERT_EQ(made.exit_code, 0) << made.error;
  const auto results =
      two_ranks(train("mixed"), train("mixed", {"--data", dir.file("other/data.yaml")}));
  for (const ProcessResult& result : results) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.error.find("other settings than rank 0"), std::string::npos) << result.error;
  }
}

TEST_F(Launch, ARankThatIsRefusedEndsTheOthersToo) {
  const auto results =
      two_ranks(train("mixed", {"train.rank_timeout=2"}), train("mixed", {"train.no_such_key=1"}));
  EXPECT_EQ(results[1].exit_code, 2);
  EXPECT_EQ(results[0].exit_code, 2);
  EXPECT_NE(results[0].error.find("missing: 1"), std::string::npos) << results[0].error;
}

TEST_F(Launch, ATakenPortIsNamed) {
  std::vector<std::string> words = launched(2, train("port"));
  const TakenPort taken;
  const std::string port = std::to_string(taken.port());
  words.insert(words.begin() + 1, {"--port", port});
  const ProcessResult result = run_brim(words);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.error.find("port " + port + " is taken"), std::string::npos) << result.error;
}

TEST_F(Launch, ImpossibleVariablesAreNamed) {
  ProcessOptions options;
  options.before = as_rank(2, 2, 29500);
  const ProcessResult result = run_brim(train("impossible"), options);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.error.find("RANK: rank 2 of 2 ranks"), std::string::npos) << result.error;
}

TEST_F(Launch, ABatchThatCannotBeSharedIsRefused) {
  const ProcessResult odd = run_brim(launched(2, train("odd", {"--batch", "5"})));
  EXPECT_EQ(odd.exit_code, 2);
  EXPECT_NE(odd.error.find("cannot be shared by 2 ranks"), std::string::npos) << odd.error;
}

TEST_F(Launch, ASignalEndsEveryRankWithACheckpoint) {
  ProcessOptions options;
  options.wait.signal = SIGTERM;
  options.wait.signal_when = [&] { return std::filesystem::exists(dir.file("long/last.pt")); };
  const ProcessResult stopped = run_brim(
      launched(2, train("long", {"--epochs", "1000", "--noval", "train.checkpoint_minutes=1e-9"})),
      options);
  EXPECT_EQ(stopped.exit_code, 130) << stopped.error;
  EXPECT_GT(last("long").info.step, 0);
}

}  // namespace
}  // namespace brim::test
