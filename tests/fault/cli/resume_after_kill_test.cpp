#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "brim/cache/error.h"
#include "brim/train/checkpoint.h"
#include "support/test_data.h"
#include "support/tiny_run.h"

namespace brim::test {
namespace {

void expect_equal(const TensorMap& a, const TensorMap& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(tensor.equal(b.at(name))) << name;
}

/// kill -9 of `brim train` within an epoch: the resumed run ends with the parameters, averages and
/// optimiser state of a run that was never disturbed, bit by bit.
TEST(ResumeAfterKill, WithinAnEpochIsBitIdentical) {
  const TempDir dir;
  const ProcessResult made = make_tiny_set(dir.file("set"), 24);
  ASSERT_EQ(made.exit_code, 0) << made.error;
  const auto train = [&](const std::string& folder, const std::string& minutes) {
    return tiny_train(dir.file("set/data.yaml"), folder,
                      {"--epochs", "2", "train.nominal_batch=8", "train.threads=1",
                       "train.checkpoint_minutes=" + minutes});
  };
  const ProcessResult whole = run_brim(train(dir.file("whole"), "0"));
  ASSERT_EQ(whole.exit_code, 0) << whole.error;

  const std::string last = dir.file("cut/last.pt");
  const auto inside_the_second_epoch = [&] {
    if (!std::filesystem::exists(last)) return false;
    const CheckpointInfo info = load_checkpoint(last).info;
    return info.epoch == 1 && info.batch >= 3;
  };
  ProcessOptions options;
  options.wait.signal = SIGKILL;
  options.wait.signal_when = inside_the_second_epoch;
  const ProcessResult cut = run_brim(train(dir.file("cut"), "1e-9"), options);
  ASSERT_EQ(cut.exit_code, 128 + SIGKILL) << "it ended before it was killed\n" << cut.output;
  const CheckpointInfo at = load_checkpoint(last).info;
  ASSERT_EQ(at.epoch, 1);
  ASSERT_LT(at.batch, at.batches_per_epoch);

  const ProcessResult resumed = run_brim({"train", "--resume", last});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.error;
  const Checkpoint a = load_checkpoint(dir.file("whole/last.pt")), b = load_checkpoint(last);
  EXPECT_EQ(a.info.step, b.info.step);
  expect_equal(a.model, b.model);
  expect_equal(a.ema, b.ema);
  expect_equal(a.optimizer, b.optimizer);
}

}  // namespace
}  // namespace brim::test
