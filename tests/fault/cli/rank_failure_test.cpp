#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "launcher.h"
#include "support/process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

using Clock = std::chrono::steady_clock;

/// Two ranks of an endless training; rank 1 gets `signal` once it runs. How rank 0 ended, and how
/// long after the signal.
ProcessResult survivor_of(int signal, double& seconds) {
  const TempDir dir;
  const ProcessResult made = run_brim({"data", "make", "--task", "detect", "--images", "20",
                                       "--size", "96", "--out", dir.file("set"), "--seed", "3"});
  EXPECT_EQ(made.exit_code, 0) << made.error;
  const std::string port = std::to_string(cli::free_port());
  std::atomic<bool> over{false};
  Clock::time_point sent;
  const auto rank = [&](int number, const ProcessOptions& options) {
    return run_process({"env",
                        "RANK=" + std::to_string(number),
                        "WORLD_SIZE=2",
                        "MASTER_PORT=" + port,
                        BRIM_BINARY_DIR "/train/cli/brim",
                        "train",
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
                        dir.file("run"),
                        "data.index_dir=none",
                        "train.threads=1",
                        "train.rank_timeout=8",
                        "train.checkpoint_minutes=1e-9"},
                       options);
  };
  std::thread other([&] {
    ProcessOptions options;
    options.wait.signal = signal;
    options.wait.signal_when = [&] {
      if (!std::filesystem::exists(dir.file("run/last.pt"))) return false;
      sent = Clock::now();
      return true;
    };
    if (signal == SIGSTOP) options.wait.timeout_seconds = 100;  // then it is killed
    rank(1, options);
  });
  const ProcessResult result = rank(0, {});
  seconds = std::chrono::duration<double>(Clock::now() - sent).count();
  other.join();
  return result;
}

TEST(RankFailure, TheOtherRankEndsWithAMessageWhenOneIsKilled) {
  double seconds = 0;
  const ProcessResult result = survivor_of(SIGKILL, seconds);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.error.find("rank"), std::string::npos) << result.error;
  EXPECT_NE(result.error.find("hint:"), std::string::npos) << result.error;
  EXPECT_LT(seconds, 60);
  std::printf("%.1f s; %s\n", seconds, result.error.c_str());
}

TEST(RankFailure, TheOtherRankEndsWithAMessageWhenOneHangs) {
  double seconds = 0;
  const ProcessResult result = survivor_of(SIGSTOP, seconds);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.error.find("rank 1 has given no sign of life"), std::string::npos)
      << result.error;
  EXPECT_LT(seconds, 60);
  std::printf("%.1f s; %s\n", seconds, result.error.c_str());
}

}  // namespace
}  // namespace brim::test
