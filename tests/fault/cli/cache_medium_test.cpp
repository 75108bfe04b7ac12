// A training whose cache meets a medium in trouble says so once and learns what it would without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TrainingCache : public testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult made = run_brim({"data", "make", "--task", "detect", "--images", "24",
                                         "--size", "96", "--out", set(), "--seed", "3"});
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }
  std::string set() const { return folder_.file("set"); }
  std::string cache() const { return folder_.file("cache"); }

  ProcessResult train(const std::string& mode, const std::string& folder) const {
    return run_brim({"train",
                     "--data",
                     set() + "/data.yaml",
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
                     "--noval",
                     "--noplots",
                     "--output",
                     folder_.file(folder),
                     "data.index_dir=none",
                     "train.threads=1",
                     "loader.cache_dir=" + cache(),
                     "--cache",
                     mode,
                     "loader.content=decoded",
                     "loader.cache_fill=1",
                     "loader.cache_size=100MiB"});
  }

  /// The losses of a run, as they are written.
  std::string losses(const std::string& folder) const {
    std::ifstream in(folder_.file(folder) + "/metrics.jsonl");
    std::string text;
    for (std::string line; std::getline(in, line);)
      for (const char* name : {"box_loss", "obj_loss", "cls_loss"})
        if (const std::size_t at = line.find(name); at != std::string::npos)
          text += line.substr(at, line.find_first_of(",}", at) - at) + "\n";
    return text;
  }

  void expect_unharmed(const std::string& mode, const std::string& warning) {
    const ProcessResult plain = train("none", "plain");
    ASSERT_EQ(plain.exit_code, 0) << plain.error;
    ASSERT_NE(losses("plain"), "");
    const ProcessResult troubled = train(mode, "troubled");
    EXPECT_EQ(troubled.exit_code, 0) << troubled.error;
    EXPECT_EQ(losses("troubled"), losses("plain"));
    EXPECT_THAT(troubled.error, HasSubstr(warning));
    std::size_t warnings = 0;
    for (std::size_t at = troubled.error.find("warning: "); at != std::string::npos;
         at = troubled.error.find("warning: ", at + 1))
      ++warnings;
    EXPECT_EQ(warnings, 1U) << troubled.error;
  }

  TempDir folder_;
};

class Mount {
 public:
  Mount(std::string at, const char* options) : at_(std::move(at)) {
    fs::create_directories(at_);
    mounted_ = ::mount("tmpfs", at_.c_str(), "tmpfs", 0, options) == 0;
  }
  ~Mount() {
    if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  explicit operator bool() const { return mounted_; }

 private:
  std::string at_;
  bool mounted_ = false;
};

TEST_F(TrainingCache, OnAFullDiskIsMentionedOnce) {
  const Mount mount(cache(), "size=160k");
  if (!mount) GTEST_SKIP() << "may not mount a small file system here";
  expect_unharmed("disk", "No space left on device");
}

TEST_F(TrainingCache, OnAFullDiskUnderLmdbIsMentionedOnce) {
  const Mount mount(cache(), "size=160k");
  if (!mount) GTEST_SKIP() << "may not mount a small file system here";
  expect_unharmed("lmdb", "No space left on device");
}

TEST_F(TrainingCache, InAReadOnlyFolderIsDoneWithout) {
  const Mount mount(cache(), "size=1m,ro");
  if (!mount) GTEST_SKIP() << "may not mount a file system here";
  expect_unharmed("disk", "training goes on with cache none");
}

TEST_F(TrainingCache, InAReadOnlyFolderLeavesATieredOneItsMemory) {
  const Mount mount(cache(), "size=1m,ro");
  if (!mount) GTEST_SKIP() << "may not mount a file system here";
  expect_unharmed("tiered", "training goes on with cache ram");
}

TEST_F(TrainingCache, WithDamagedEntriesMakesThemAnew) {
  ASSERT_EQ(train("disk", "first").exit_code, 0);
  for (const auto& entry : fs::recursive_directory_iterator(cache())) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("segment-")) continue;
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(1000);
    file.write("damage", 6);
  }
  expect_unharmed("disk", "damaged entries of the cache");
}

}  // namespace
}  // namespace brim::test
