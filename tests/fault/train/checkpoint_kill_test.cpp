#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "brim/train/checkpoint.h"
#include "support/test_data.h"

namespace {
/// A checkpoint whose tensors all hold `value`.
brim::Checkpoint filled(float value) {
  brim::Checkpoint checkpoint;
  checkpoint.info.network = "tiny";
  checkpoint.info.epoch = static_cast<int>(value);
  checkpoint.model = {{"w", torch::full({1 << 20}, value)}};
  return checkpoint;
}

/// kill -9 at random moments of a writer that never stops: what lies there is always whole.
TEST(Checkpoint, IsTheOldOrTheNewOneAfterKill9) {
  const brim::test::TempDir folder;
  const std::string path = folder.file("last.pt");
  brim::save_checkpoint(path, filled(0));
  // Encoded before the fork: the child only makes system calls.
  std::vector<std::string> encoded;
  for (int i = 1; i <= 3; ++i) {
    brim::save_checkpoint(folder.file("source.pt"), filled(static_cast<float>(i)));
    encoded.push_back(brim::test::read_file(folder.file("source.pt")));
  }
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (std::size_t i = 0;; ++i) {
        const std::string& bytes = encoded[i % encoded.size()];
        brim::write_file_atomically(path, bytes.data(), bytes.size());
      }
    }
    ::usleep(random() % 20000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const brim::Checkpoint found = brim::load_checkpoint(path);
    const float value = found.model.at("w")[0].item<float>();
    ASSERT_EQ(found.info.epoch, static_cast<int>(value));
    ASSERT_TRUE(found.model.at("w").eq(value).all().item<bool>());
  }
}

TEST(Checkpoint, KeepsTheOldFileWhenTheDiskIsFull) {
  // A file-size limit of the process stands for a full disk.
  const brim::test::TempDir folder;
  const std::string path = folder.file("last.pt");
  brim::save_checkpoint(path, filled(1));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &small);
    const std::string bytes(4 << 20, 'x');
    try {
      brim::write_file_atomically(path, bytes.data(), bytes.size());
    } catch (const std::exception&) {
      ::_exit(7);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(brim::load_checkpoint(path).info.epoch, 1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}
}  // namespace
