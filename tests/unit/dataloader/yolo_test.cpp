#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>

#include "brim/dataloader/dataset.h"
#include "support/errors.h"
#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim {
namespace {
using test::error_of;
using test::TempDir;
using test::write_file;
using test::write_yolo;
using ::testing::HasSubstr;

const std::string kGood = "0 .5 .5 .1 .1\n1 .4 .4 .2 .2\n";

std::int64_t box_count(const Dataset& dataset) {
  RecordScratch scratch;
  std::int64_t boxes = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    boxes += static_cast<std::int64_t>(dataset.record(i, scratch).boxes.size());
  }
  return boxes;
}

/// A data file whose training images are `count` lines, the i-th being image `image(i)` of
/// `folder`.
std::string write_list(const std::string& folder, int count, const std::function<int(int)>& image) {
  std::string list;
  for (int i = 0; i < count; ++i) list += "images/train/" + std::to_string(image(i)) + ".jpg\n";
  write_file(folder + "/list.txt", list);
  write_file(folder + "/list.yaml", "train: list.txt\nnames: [a, b, c]\n");
  return folder + "/list.yaml";
}

TEST(Yolo, ReadsImagesSizesAndLabels) {
  const TempDir dir;
  const auto data = open_yolo(write_yolo(dir.file("set"), {kGood, "-", "2 .1 .1 .1 .1\n"}));
  ASSERT_EQ(data->size(), 3);
  EXPECT_EQ(data->task(), Task::Detect);
  EXPECT_EQ(data->class_names().size(), 3u);
  RecordScratch scratch;
  Record record = data->record(0, scratch);
  EXPECT_EQ(record.source.path, dir.file("set/images/train/0.jpg"));
  EXPECT_EQ(record.source.length, std::filesystem::file_size(record.source.path));
  EXPECT_GT(record.source.mtime_ns, 0);
  EXPECT_EQ(record.width, 64);
  EXPECT_EQ(record.height, 48);
  ASSERT_EQ(record.boxes.size(), 2u);
  EXPECT_EQ(record.boxes[1].class_id, 1);
  EXPECT_TRUE(data->record(1, scratch).boxes.empty()) << "an image without labels is background";
  EXPECT_EQ(data->record(2, scratch).boxes[0].class_id, 2);
  EXPECT_TRUE(data->warnings().empty());
}

TEST(Yolo, MapsTheLastImagesFolderToLabels) {
  const TempDir dir;
  write_file(dir.file("images/set/images/deep/a.JPG"), test::jpeg_header(8, 8));
  write_file(dir.file("images/set/labels/deep/a.txt"), kGood);
  write_file(dir.file("images/set/d.yaml"), "train: images\nnames: [a, b]\n");
  EXPECT_EQ(box_count(*open_yolo(dir.file("images/set/d.yaml"))), 2);
}

TEST(Yolo, KeepsPolygonsWithTheirBoxes) {
  const TempDir dir;
  const std::string polygon = "1 .1 .2 .5 .3 .3 .8\n";
  const auto data = open_yolo(write_yolo(dir.file("s"), {kGood, kGood + polygon, polygon + kGood}));
  RecordScratch scratch;
  EXPECT_TRUE(data->record(0, scratch).polygons.empty());
  const Record second = data->record(1, scratch);
  ASSERT_EQ(second.polygons.size(), 1u);
  EXPECT_EQ(second.polygons[0].box, 2);
  ASSERT_EQ(second.polygons[0].points.size(), 6u);
  EXPECT_FLOAT_EQ(second.polygons[0].points[5], 0.8f);
  EXPECT_EQ(data->record(2, scratch).polygons[0].box, 0);
}

TEST(Yolo, NamesEveryRejectedRowWithFileAndLine) {
  const TempDir dir;
  std::vector<std::string> labels(20, kGood);
  labels[3] = kGood + "0 .5 .5 .1\n\n0 nan .5 .1 .1\n" + "0 .5 .5 .1 .1\n";
  const auto data = open_yolo(write_yolo(dir.file("s"), labels));
  EXPECT_EQ(box_count(*data), 40);
  ASSERT_EQ(data->warnings().size(), 3u);
  const std::string file = dir.file("s/labels/train/3.txt");
  for (const DatasetWarning& warning : data->warnings()) EXPECT_EQ(warning.file, file);
  EXPECT_EQ(data->warnings()[0].line, 3);
  EXPECT_THAT(data->warnings()[0].reason, HasSubstr("found 4; row rejected"));
  EXPECT_EQ(data->warnings()[1].line, 5);
  EXPECT_THAT(data->warnings()[1].reason, HasSubstr("'nan' is not a finite number"));
  EXPECT_EQ(data->warnings()[2].line, 6);
  EXPECT_THAT(data->warnings()[2].reason, HasSubstr("same as line 1"));
}

TEST(Yolo, ManyBadRowsAreAnErrorThatNamesTheFirst) {
  const TempDir dir;
  const std::string yaml = write_yolo(dir.file("s"), {kGood, "0 .5 .5 .1\n"});
  const std::string text = error_of([&] { open_yolo(yaml); });
  EXPECT_THAT(text, HasSubstr(dir.file("s/labels/train/1.txt") + ":1: expected 5 numbers"));
  EXPECT_THAT(text, HasSubstr("1 of 3 label rows are bad (33.3%); more than 10%"));
  EXPECT_EQ(box_count(*open_yolo(yaml, {.max_bad_fraction = 0.5})), 2);
}

TEST(Yolo, AClassOutOfRangeIsAnErrorWhateverTheThreads) {
  const TempDir dir;
  const std::string bad = "0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n";
  write_yolo(dir.file("s"), {kGood, bad, bad});
  const std::string yaml = write_list(dir.file("s"), 1200, [](int i) {
    return i == 700 ? 2 : i == 300 ? 1 : 0;
  });
  std::string first;
  for (const int threads : {1, 2, 8}) {
    const std::string text = error_of([&] { open_yolo(yaml, {.threads = threads}); });
    EXPECT_THAT(text, HasSubstr("class 7 is out of range: the dataset names 3 classes (0 to 2)"));
    if (first.empty()) first = text;
    EXPECT_EQ(text, first);
  }
  EXPECT_THAT(first, HasSubstr("labels/train/1.txt:2:"));
  const auto single = open_yolo(yaml, {.single_class = true});
  EXPECT_EQ(single->class_names(), std::vector<std::string>{"object"});
  RecordScratch scratch;
  EXPECT_EQ(single->record(300, scratch).boxes[1].class_id, 0);
}

TEST(Yolo, SaysWhenThereAreNoImagesOrNoLabels) {
  const TempDir dir;
  write_file(dir.file("data.yaml"), "train: images\nnames: [a]\n");
  write_file(dir.file("images/readme.md"), "");
  EXPECT_THAT(error_of([&] { open_yolo(dir.file("data.yaml")); }),
              HasSubstr("data.yaml:1: train: no images found in " + dir.file("images")));
  write_file(dir.file("images/a.png"), test::png_header(4, 5));
  const std::string text = error_of([&] { open_yolo(dir.file("data.yaml")); });
  EXPECT_THAT(text, HasSubstr(dir.file("labels/a.txt") + ": no labels found for any of 1 images"));
}

TEST(Yolo, ReadsListFiles) {
  const TempDir dir;
  write_yolo(dir.file("s"), {kGood, kGood, kGood});
  write_file(dir.file("s/lists/train.txt"),
             "images/train/2.jpg\r\n\n./images/train/0.jpg\n" + dir.file("s/images/train/1.jpg"));
  write_file(dir.file("s/more.txt"), "images/train/1.jpg\n");
  write_file(dir.file("s/l.yaml"), "train: [lists/train.txt, more.txt]\nnames: [a, b]\n");
  const auto data = open_yolo(dir.file("s/l.yaml"));
  ASSERT_EQ(data->size(), 4);
  for (const auto& [index, name] :
       std::map<int, std::string>{{0, "2"}, {1, "0"}, {2, "1"}, {3, "1"}}) {
    EXPECT_EQ(data->path(index), dir.file("s/images/train/" + name + ".jpg"));
  }
  EXPECT_EQ(box_count(*data), 8);
}

TEST(Yolo, NamesTheLineOfAListedImageThatIsMissing) {
  const TempDir dir;
  write_yolo(dir.file("s"), std::vector<std::string>(30, kGood));
  std::string list;
  for (int i = 0; i < 30; ++i) list += "images/train/" + std::to_string(i) + ".jpg\n";
  write_file(dir.file("s/t.txt"), "images/train/none.jpg\n" + list);
  write_file(dir.file("s/l.yaml"), "train: t.txt\nnames: [a, b]\n");
  const auto data = open_yolo(dir.file("s/l.yaml"));
  EXPECT_EQ(data->size(), 30);
  ASSERT_EQ(data->warnings().size(), 1u);
  EXPECT_EQ(data->warnings()[0].line, 1);
  EXPECT_EQ(data->warnings()[0].reason, "no such image: " + dir.file("s/images/train/none.jpg"));
  write_file(dir.file("s/t.txt"), "images/train/0.jpg\nimages/none.jpg\n");
  EXPECT_THAT(error_of([&] { open_yolo(dir.file("s/l.yaml")); }),
              HasSubstr("t.txt:2: no such image"));
}

TEST(Yolo, EveryNumberOfThreadsGivesTheSameDataset) {
  const TempDir dir;
  write_yolo(dir.file("s"), {kGood, "2 .1 .2 .5 .3 .3 .8\n" + kGood});
  const std::string yaml = write_list(dir.file("s"), 1500, [](int i) { return i % 7 == 0; });
  const auto one = open_yolo(yaml, {.threads = 1});
  const auto many = open_yolo(yaml, {.threads = 7});
  EXPECT_EQ(one->fingerprint(), many->fingerprint());
  EXPECT_EQ(box_count(*many), 3000 + 215);
  std::filesystem::rename(dir.file("s"), dir.file("moved"));
  EXPECT_EQ(open_yolo(dir.file("moved/list.yaml"))->fingerprint(), one->fingerprint())
      << "a copied dataset keeps its fingerprint";
  write_file(dir.file("moved/labels/train/1.txt"), "2 .1 .1 .1 .1\n");
  EXPECT_NE(open_yolo(dir.file("moved/list.yaml"))->fingerprint(), one->fingerprint());
}

/// Boxes of all images whose path holds `part`, from the table of the shared data.
std::int64_t boxes_in_table(const std::string& table, const std::string& part) {
  std::istringstream lines(test::read_file(table));
  std::string line;
  std::int64_t boxes = 0;
  while (std::getline(lines, line)) {
    if (line.find(part) != 0) continue;
    boxes += std::atoll(line.substr(line.rfind('\t') + 1).c_str());
  }
  return boxes;
}

TEST(Yolo, CountsTheRealSetsAsTheirTableDoes) {
  BRIM_TEST_DATA_OR_SKIP(table, "data/IMAGES.tsv");
  const std::string root = std::filesystem::path(table).parent_path().string() + "/";
  struct Expected {
    const char* name;
    std::int64_t train, val;
  };
  for (const Expected& expected :
       {Expected{"detect_bccd", 292, 72}, Expected{"detect_coco_ccby_mini", 7, 7},
        Expected{"detect_tomato12mp_mini", 3, 1}}) {
    const std::string yaml = root + expected.name + "/data.yaml";
    const auto train = open_yolo(yaml, {.split = Split::Train});
    const auto val = open_yolo(yaml, {.split = Split::Val});
    EXPECT_EQ(train->size(), expected.train) << expected.name;
    EXPECT_EQ(val->size(), expected.val) << expected.name;
    const std::string prefix = std::string(expected.name) + "/images/";
    EXPECT_EQ(box_count(*train), boxes_in_table(table, prefix + "train")) << expected.name;
    EXPECT_EQ(box_count(*val), boxes_in_table(table, prefix + "val")) << expected.name;
    EXPECT_TRUE(train->warnings().empty()) << train->warnings()[0].reason;
    RecordScratch scratch;
    for (std::int64_t i = 0; i < train->size(); ++i) {
      EXPECT_GT(train->record(i, scratch).width, 0) << train->path(i);
    }
  }
}

}  // namespace
}  // namespace brim
