#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "brim/dataloader/dataset.h"
#include "support/errors.h"
#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using test::error_of;
using test::TempDir;
using test::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

void write_image(const std::string& path) {
  write_file(path, test::jpeg_header(20, 10));
}

TEST(ImageFolder, TakesClassesInAlphabeticalOrder) {
  const TempDir dir;
  for (const char* name : {"train/dog/b.jpg", "train/dog/deep/a.jpg", "train/cat/c.png",
                           "train/ape/.hidden.jpg", "train/ape/notes.txt", "val/cat/d.jpg"}) {
    write_image(dir.file(name));
  }
  const auto train = open_image_folder(dir.file(""));
  EXPECT_EQ(train->task(), Task::Classify);
  EXPECT_THAT(train->class_names(), ElementsAre("ape", "cat", "dog"));
  ASSERT_EQ(train->size(), 3);
  RecordScratch scratch;
  EXPECT_EQ(train->record(0, scratch).class_id, 1);
  EXPECT_EQ(train->record(1, scratch).class_id, 2);
  EXPECT_EQ(scratch.path, dir.file("train/dog/b.jpg"));
  EXPECT_EQ(train->record(2, scratch).width, 20);
  ASSERT_EQ(train->warnings().size(), 1u);
  EXPECT_EQ(train->warnings()[0].reason, "class without images");
  const auto val = open_dataset(dir.file(""), {.split = Split::Val});
  ASSERT_EQ(val->size(), 1);
  EXPECT_EQ(val->record(0, scratch).class_id, 1) << "numbered as in training";
}

TEST(ImageFolder, SaysWhatIsMissing) {
  const TempDir dir;
  write_image(dir.file("train/cat/a.jpg"));
  EXPECT_THAT(error_of([&] { open_image_folder(dir.file(""), {.split = Split::Val}); }),
              HasSubstr("no folder 'val'"));
  write_image(dir.file("val/cow/a.jpg"));
  EXPECT_THAT(error_of([&] { open_image_folder(dir.file(""), {.split = Split::Val}); }),
              HasSubstr("class 'cow' is not among the training classes"));
  EXPECT_THAT(error_of([&] { open_image_folder(dir.file("none")); }), HasSubstr("no such folder"));
  fs::create_directories(dir.file("empty/x"));
  EXPECT_THAT(error_of([&] { open_image_folder(dir.file("empty")); }),
              HasSubstr("no images found"));
}

TEST(ImageFolder, WithoutSplitsEverythingIsTraining) {
  const TempDir dir;
  write_image(dir.file("cat/a.jpg"));
  write_image(dir.file("train/a.jpg"));  // a class called train
  EXPECT_EQ(open_image_folder(dir.file(""))->class_names().size(), 2u);
  EXPECT_THAT(error_of([&] { open_image_folder(dir.file(""), {.split = Split::Val}); }),
              HasSubstr("nothing to validate on"));
}

TEST(ImageFolder, AFolderOfImagesIsUnlabelled) {
  const TempDir dir;
  write_image(dir.file("b.jpg"));
  write_image(dir.file("a.jpg"));
  const auto data = open_dataset(dir.file(""), {.split = Split::Val});
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->path(0), dir.file("a.jpg"));
  RecordScratch scratch;
  EXPECT_EQ(data->record(0, scratch).class_id, -1);
  EXPECT_TRUE(data->record(0, scratch).boxes.empty());
}

TEST(ImageFolder, FollowsLinksOnceOnly) {
  const TempDir dir;
  write_image(dir.file("set/cat/a.jpg"));
  fs::create_directory_symlink(dir.file("set/cat"), dir.file("set/cat/again"));
  fs::create_directory_symlink(dir.file("set"), dir.file("set/cat/up"));
  EXPECT_EQ(open_image_folder(dir.file("set"))->size(), 1);
}

TEST(ImageFolder, KeepsAnIndex) {
  const TempDir dir;
  write_image(dir.file("set/cat/a.jpg"));
  const DatasetOptions options{.index_directory = dir.file("cache")};
  const auto cold = open_image_folder(dir.file("set"), options);
  const auto warm = open_image_folder(dir.file("set"), options);
  EXPECT_EQ(cold->fingerprint(), warm->fingerprint());
  EXPECT_EQ(warm->class_names(), cold->class_names());
  write_image(dir.file("set/dog/a.jpg"));
  EXPECT_EQ(open_image_folder(dir.file("set"), options)->size(), 2);
}

TEST(ImageFolder, ReadsTheRealSet) {
  BRIM_TEST_DATA_OR_SKIP(root, "data/classify_grocery12");
  const auto train = open_dataset(root);
  const auto val = open_dataset(root, {.split = Split::Val});
  EXPECT_EQ(train->size(), 587);
  EXPECT_EQ(val->size(), 360);
  EXPECT_EQ(train->class_names().size(), 12u);
  EXPECT_EQ(train->class_names(), val->class_names());
  RecordScratch scratch;
  EXPECT_EQ(train->record(0, scratch).width, 348);
}

TEST(OpenDataset, SaysWhatItWantsInstead) {
  const TempDir dir;
  EXPECT_THAT(error_of([&] { open_dataset(dir.file("none")); }),
              HasSubstr("no such data file or folder"));
  write_file(dir.file("notes.md"), "");
  EXPECT_THAT(error_of([&] { open_dataset(dir.file("notes.md")); }),
              HasSubstr("not a kind of dataset that brim knows"));
  EXPECT_EQ(parse_split("val"), Split::Val);
  EXPECT_THAT(error_of([] { parse_split("valid"); }), HasSubstr("one of train, val, test"));
}

}  // namespace
}  // namespace brim
