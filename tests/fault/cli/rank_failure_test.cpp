#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "brim/train/checkpoint.h"
#include "launcher.h"
#include "support/process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

using Clock = std::chrono::steady_clock;

class RankFailure : public testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult made = run_brim({"data", "make", "--task", "detect", "--images", "20",
                                         "--size", "96", "--out", dir.file("set"), "--seed", "3"});
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }

  std::vector<std::string> train(const std::string& folder, int steps) const {
    return {"train",
            "--data",
            dir.file("set/data.yaml"),
            "--model",
            "yolov5n",
            "--img",
            "64",
            "--batch",
            "4",
            "--epochs",
            "100000",
            "--workers",
            "1",
            "--noplots",
            "--noval",
            "--output",
            dir.file(folder),
            "data.index_dir=none",
            "train.threads=1",
            "train.lr0=0.001",  // rounding grows with the rate
            "train.warmup_epochs=0",
            "train.rank_timeout=8",
            "train.checkpoint_minutes=1e-9",
            "train.max_steps=" + std::to_string(steps)};
  }

  /// Two ranks of a training without an end; rank `victim` gets `signal` once there is a
  /// checkpoint. How the other ended, and in `seconds` how long after the signal.
  ProcessResult survivor_of(int signal, int victim, double& seconds) const {
    const int port = cli::free_port();
    Clock::time_point sent;
    std::thread other([&] {
      ProcessOptions options;
      options.before = as_rank(victim, 2, port);
      options.wait.signal = signal;
      options.wait.signal_when = [&] {
        if (!std::filesystem::exists(dir.file("run/last.pt"))) return false;
        sent = Clock::now();
        return true;
      };
      if (signal == SIGSTOP) options.wait.timeout_seconds = 100;  // then it is killed
      run_brim(train("run", 1'000'000), options);
    });
    ProcessOptions options;
    options.before = as_rank(1 - victim, 2, port);
    const ProcessResult result = run_brim(train("run", 1'000'000), options);
    seconds = std::chrono::duration<double>(Clock::now() - sent).count();
    other.join();
    std::printf("rank %d ended %.1f s after rank %d: %s\n", 1 - victim, seconds, victim,
                result.error.c_str());
    return result;
  }

  void expect_clear_end(int signal, int victim, const std::string& message) const {
    double seconds = 0;
    const ProcessResult result = survivor_of(signal, victim, seconds);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.error.find(message), std::string::npos) << result.error;
    EXPECT_NE(result.error.find("hint:"), std::string::npos) << result.error;
    EXPECT_LT(seconds, 60);
  }

  Checkpoint last(const std::string& folder) const {
    return load_checkpoint(dir.file(folder + "/last.pt"));
  }

  TempDir dir;
};

double difference(const TensorMap& a, const TensorMap& b) {
  double most = 0;
  for (const auto& [name, tensor] : a)
    most = std::max(
        most,
        (tensor.to(torch::kDouble) - b.at(name).to(torch::kDouble)).abs().max().item<double>());
  return most;
}

TEST_F(RankFailure, AnyNumberOfRanksGoesOnAfterOneWasKilled) {
  expect_clear_end(SIGKILL, 1, "another rank has ended");
  const std::int64_t reached = last("run").info.step;
  ASSERT_GT(reached, 0);
  const int end = static_cast<int>(reached) + 3;
  const ProcessResult whole = run_brim(train("whole", end));
  ASSERT_EQ(whole.exit_code, 0) << whole.error;
  for (const int ranks : {1, 2, 4}) {
    const std::string folder = "resumed" + std::to_string(ranks);
    std::filesystem::copy(dir.file("run"), dir.file(folder));
    const ProcessResult resumed =
        run_brim({"launch", "--nproc", std::to_string(ranks), "--", "train", "--resume",
                  dir.file(folder + "/last.pt"), "train.max_steps=" + std::to_string(end)});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.error << resumed.output;
    const Checkpoint one = last("whole"), other = last(folder);
    EXPECT_EQ(other.info.step, end);
    EXPECT_EQ(other.info.epoch, one.info.epoch);
    EXPECT_EQ(other.info.batch, one.info.batch);
    // The weights tell of other samples: they would differ by hundredths.
    EXPECT_LE(difference(one.model, other.model), 1e-4) << ranks << " ranks";
  }
}

TEST_F(RankFailure, TheOthersEndWithAMessageWhenRankZeroIsKilled) {
  expect_clear_end(SIGKILL, 0, "rank 1");
}

TEST_F(RankFailure, TheOthersEndWithAMessageWhenOneHangs) {
  expect_clear_end(SIGSTOP, 1, "rank 1 has given no sign of life");
}

}  // namespace
}  // namespace brim::test
