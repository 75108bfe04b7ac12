#include "dataloader/src/index_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>

#include "brim/dataloader/dataset.h"
#include "support/index_samples.h"
#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using namespace detail;
using test::digest_of;
using test::small_index;
using test::TempDir;
using test::write_file;
using ::testing::HasSubstr;

TEST(IndexCache, GivesBackWhatWasKept) {
  const TempDir dir;
  const std::string file = index_file(dir.file("new/folder"), "yolo");
  ASSERT_EQ(save_index(file, digest_of("s"), small_index(), 42), "");
  const auto stored = load_index(file, digest_of("s"));
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->fingerprint, 42u);
  EXPECT_EQ(stored->index.fingerprint(""), small_index().fingerprint(""));
  EXPECT_EQ(stored->index.warnings[0].line, 3);
  RecordScratch scratch;
  EXPECT_EQ(stored->index.record(1, scratch).polygons.size(), 1u);
  EXPECT_EQ(scratch.path, "/x/2.jpg");
  EXPECT_FALSE(load_index(file, digest_of("t"))) << "other sources";
  EXPECT_FALSE(load_index(file + "x", digest_of("s"))) << "no such file";
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.file("new/folder")), {}), 1);
}

TEST(IndexCache, AnUnwritableFolderIsSaid) {
  const TempDir dir;
  write_file(dir.file("taken"), "");
  EXPECT_THAT(save_index(dir.file("taken/i"), digest_of("s"), small_index(), 1),
              HasSubstr("cannot"));
}

TEST(SourceDigest, DependsOnTheOrderOfTextsAndNotOfFiles) {
  SourceDigest a, b, c;
  a.add_file("x", 1, 2), a.add_file("y", 3, 4);
  b.add_file("y", 3, 4), b.add_file("x", 1, 2);
  c.add_file("x", 3, 2), c.add_file("y", 1, 4);
  EXPECT_EQ(a.value(), b.value());
  EXPECT_FALSE(a.value() == c.value());
  SourceDigest d, e;
  d.add("ab"), d.add("c");
  e.add("a"), e.add("bc");
  EXPECT_FALSE(d.value() == e.value());
}

/// A YOLO set and its kept index. A rebuilt index replaces the file, so the file's number tells
/// whether opening used it.
class KeptIndex {
 public:
  KeptIndex() : yaml_(test::write_yolo(dir_.file("s"), std::vector<std::string>(12, kRow))) {
    options_.index_directory = dir_.file("cache");
    open_yolo(yaml_, options_);
    file_ = fs::directory_iterator(dir_.file("cache"))->path().string();
  }
  bool used() {
    const ino_t before = number();
    const auto data = open_yolo(yaml_, options_);
    EXPECT_EQ(data->fingerprint(), open_yolo(yaml_)->fingerprint()) << "differs from a fresh scan";
    return number() == before;
  }
  const TempDir& dir() const { return dir_; }
  const std::string& file() const { return file_; }

 private:
  static constexpr const char* kRow = "0 .5 .5 .1 .1\n";

  ino_t number() const {
    struct stat status {};
    EXPECT_EQ(::stat(file_.c_str(), &status), 0);
    return status.st_ino;
  }
  TempDir dir_;
  std::string yaml_;
  DatasetOptions options_;
  std::string file_;
};

TEST(KeptIndex, IsUsedWhileNothingChanged) {
  KeptIndex kept;
  EXPECT_TRUE(kept.used());
  EXPECT_TRUE(kept.used());
}

TEST(KeptIndex, IsRebuiltWhenAnythingChanged) {
  KeptIndex kept;
  const std::string set = kept.dir().file("s/");
  const auto touch = [](const std::string& file) {
    fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  };
  write_file(set + "labels/train/3.txt", "1 .5 .5 .1 .1\n1 .2 .2 .1 .1\n");
  EXPECT_FALSE(kept.used()) << "a label was rewritten";
  EXPECT_TRUE(kept.used());
  touch(set + "images/train/5.jpg");
  EXPECT_FALSE(kept.used()) << "an image was touched";
  fs::remove(set + "labels/train/4.txt");
  EXPECT_FALSE(kept.used()) << "a label went";
  fs::remove(set + "images/train/4.jpg");
  EXPECT_FALSE(kept.used()) << "an image went";
  write_file(set + "images/train/new.jpg", test::jpeg_header(5, 5));
  EXPECT_FALSE(kept.used()) << "an image came";
  write_file(set + "data.yaml", test::read_file(set + "data.yaml") + "nc: 3\n");
  EXPECT_TRUE(kept.used()) << "the data file says the same in other words";
  EXPECT_TRUE(kept.used());
}

TEST(KeptIndex, IsRebuiltWhenDamaged) {
  KeptIndex kept;
  std::string bytes = test::read_file(kept.file());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  write_file(kept.file(), bytes);
  EXPECT_FALSE(kept.used());
  EXPECT_TRUE(kept.used());
}

TEST(SampleIndex, TakesAtMost64BytesPerSample) {
  SampleIndex index;
  const std::uint32_t folder = index.add_directory("/data/some/folder/images/train");
  constexpr int kSamples = 100'000;
  char name[32];
  for (int i = 0; i < kSamples; ++i) {
    std::snprintf(name, sizeof name, "%016d.jpeg", i);
    index.add(folder, name);
  }
  index.shrink_to_fit();
  EXPECT_LE(index.sample_bytes(), 64u * kSamples);
}

}  // namespace
}  // namespace brim
