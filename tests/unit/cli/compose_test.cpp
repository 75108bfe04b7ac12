#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <opencv2/imgcodecs.hpp>

#include "compose_render.h"
#include "compose_scenes.h"
#include "support/errors.h"
#include "support/test_data.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using test::error_of;
using test::TempDir;
using ::testing::HasSubstr;

std::string big32(unsigned value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

/// An IDX set of bright squares (class 0) and discs (class 1), 28x28, 20 per split.
std::string write_shapes(const std::string& folder) {
  std::string images = big32(0x803) + big32(20) + big32(28) + big32(28);
  std::string labels = big32(0x801) + big32(20);
  for (int i = 0; i < 20; ++i) {
    labels += static_cast<char>(i % 2);
    for (int y = 0; y < 28; ++y) {
      for (int x = 0; x < 28; ++x) {
        const int dx = x - 14, dy = y - 14;
        const bool inside = i % 2 == 1 ? dx * dx + dy * dy < 120 : std::max(dx * dx, dy * dy) < 90;
        images += static_cast<char>(inside ? 120 + 5 * i : 0);
      }
    }
  }
  for (const char* split : {"train", "t10k"}) {
    test::write_file(folder + "/" + split + "-images-idx3-ubyte", images);
    test::write_file(folder + "/" + split + "-labels-idx1-ubyte", labels);
  }
  return folder;
}

class Compose : public ::testing::Test {
 protected:
  ComposeOptions options(const std::string& name) const {
    ComposeOptions options;
    options.source = dir_.file("shapes");
    options.output = dir_.file(name);
    options.images = 24;
    options.size = 96;
    options.threads = 2;
    options.seed = 5;
    return options;
  }
  void SetUp() override { write_shapes(dir_.file("shapes")); }

  /// Content of every file below `folder` by its relative path.
  static std::map<std::string, std::string> content(const std::string& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      files[fs::relative(entry.path(), folder).string()] = test::read_file(entry.path().string());
    }
    return files;
  }

  TempDir dir_;
};

TEST_F(Compose, MakesADetectionSetThatOpens) {
  const ComposeReport report = compose_scenes(options("set"));
  EXPECT_EQ(report.written, 24);
  EXPECT_EQ(report.val_images, 2);
  const auto train = open_dataset(report.data);
  const auto val = open_dataset(report.data, {.split = Split::Val});
  EXPECT_EQ(train->size(), 22);
  EXPECT_EQ(val->size(), 2);
  EXPECT_EQ(train->class_names().size(), 2u);
  EXPECT_TRUE(train->warnings().empty());
  RecordScratch scratch;
  for (std::int64_t i = 0; i < train->size(); ++i) {
    const Record record = train->record(i, scratch);
    EXPECT_EQ(record.width, 96);
    EXPECT_GE(record.boxes.size(), 1u);
    EXPECT_FALSE(cv::imread(scratch.path).empty());
  }
}

TEST_F(Compose, GivesTheSameFilesWhateverTheThreads) {
  ComposeOptions one = options("one"), many = options("many"), other = options("other");
  one.threads = 1, many.threads = 5, other.seed = 6;
  compose_scenes(one), compose_scenes(many), compose_scenes(other);
  EXPECT_EQ(content(one.output), content(many.output));
  EXPECT_NE(content(one.output), content(other.output));
}

TEST_F(Compose, GoesOnWhereItWasStopped) {
  const ComposeOptions whole = options("whole"), part = options("part");
  compose_scenes(whole);
  const ComposeReport stopped =
      compose_scenes(part, [](std::int64_t done, std::int64_t) { return done < 16; });
  EXPECT_FALSE(stopped.finished);
  EXPECT_FALSE(fs::exists(part.output + "/data.yaml")) << "data.yaml comes last";
  // A picture cut short, as a power cut may leave it, is made anew.
  const std::string cut = part.output + "/images/train/0000/00000003.jpg";
  test::write_file(cut, test::read_file(cut).substr(0, 500));
  const ComposeReport rest = compose_scenes(part);
  EXPECT_GE(rest.kept, 15);
  EXPECT_EQ(rest.kept + rest.written, 24);
  EXPECT_EQ(content(whole.output), content(part.output));
}

TEST_F(Compose, AddsToASmallerSet) {
  ComposeOptions small = options("set");
  small.images = 10;
  compose_scenes(small);
  compose_scenes(options("at once"));
  const ComposeReport report = compose_scenes(options("set"));
  EXPECT_EQ(report.kept, 10);
  EXPECT_EQ(content(dir_.file("set")), content(dir_.file("at once")));
  EXPECT_THAT(error_of([&] { compose_scenes(small); }),
              HasSubstr("holds 24 images, more than the 10 wanted"));
}

TEST_F(Compose, MakesAnImageFolder) {
  ComposeOptions classify = options("set");
  classify.task = Task::Classify;
  const ComposeReport report = compose_scenes(classify);
  const auto train = open_dataset(report.data);
  EXPECT_EQ(train->task(), Task::Classify);
  EXPECT_EQ(train->size(), 22);
  EXPECT_EQ(train->class_names(), (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(compose_scenes(classify).kept, 24);
}

TEST_F(Compose, TakesSomeOfTheClasses) {
  ComposeOptions discs = options("set");
  discs.classes = {"1"};
  const auto train = open_dataset(compose_scenes(discs).data);
  EXPECT_EQ(train->class_names(), std::vector<std::string>{"1"});
  discs.classes = {"hat"};
  EXPECT_THAT(error_of([&] { compose_scenes(discs); }), HasSubstr("no class 'hat'"));
}

TEST_F(Compose, RefusesAFolderOfOtherThings) {
  ComposeOptions options = this->options("set");
  test::write_file(options.output + "/thesis.tex", "");
  EXPECT_THAT(error_of([&] { compose_scenes(options); }), HasSubstr("is not empty"));
  options.output = dir_.file("good");
  compose_scenes(options);
  options.size = 64;
  EXPECT_THAT(error_of([&] { compose_scenes(options); }),
              HasSubstr("holds a set of other settings"));
  options.images = 0;
  EXPECT_THAT(error_of([&] { compose_scenes(options); }), HasSubstr("images: must be 1"));
}

TEST_F(Compose, BoxesEncloseWhatIsSeenAndOverlapLittle) {
  detail::SceneSource source;
  source.dataset = open_idx(dir_.file("shapes"));
  source.classes = {0, 1};
  for (std::int64_t i = 0; i < 20; ++i) source.indices.push_back(i);
  for (std::uint64_t key = 0; key < 30; ++key) {
    const detail::Scene scene = detail::compose_scene(source, {.size = 160}, key);
    ASSERT_GE(scene.boxes.size(), 1u) << "key " << key;
    for (const Box& box : scene.boxes) {
      EXPECT_GE(box.cx - box.width / 2, -1e-5f) << "key " << key;
      EXPECT_LE(box.cy + box.height / 2, 1 + 1e-5f) << "key " << key;
      EXPECT_GT(box.width * 160, 8) << "key " << key;
      EXPECT_LT(box.width, 0.7f) << "key " << key;
    }
  }
}

}  // namespace
}  // namespace brim
