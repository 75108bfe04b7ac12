#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "brim/dataloader/dataset.h"
#include "support/errors.h"
#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim {
namespace {
using test::error_of;
using test::TempDir;
using test::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kImages = R"("images": [
  {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50},
  {"file_name": "b.jpg", "id": 3}])";
constexpr const char* kCategories = R"("categories": [
  {"id": 18, "name": "dog", "supercategory": {"id": 5, "name": "animal"}}, {"id": 1, "name": "man"}])";

class Coco : public ::testing::Test {
 protected:
  Coco() {
    write_file(dir_.file("train2017/a.jpg"), test::jpeg_header(100, 50));
    write_file(dir_.file("train2017/b.jpg"), test::jpeg_header(40, 20));
  }
  std::string write(const std::string& annotations, const std::string& rest = kCategories) {
    const std::string file = dir_.file("annotations/instances_train2017.json");
    write_file(file, std::string("{\"info\": {\"id\": [1]}, ") + "\"annotations\": [" +
                         annotations + "], " + kImages + ", " + rest + "}");
    return file;
  }
  std::string error(const std::string& annotations, const std::string& rest = kCategories) {
    const std::string file = write(annotations, rest);
    return error_of([&] { open_coco(file); });
  }
  TempDir dir_;
};

const std::string kBox = R"({"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 5, 20, 10]})";

TEST_F(Coco, ReadsBoxesPolygonsAndClasses) {
  const std::string file =
      write(kBox + R"(, {"id": 2, "image_id": 3, "category_id": 1, "bbox": [30, 10, 20, 5.0],
        "iscrowd": 0, "segmentation": [[0, 0, 40, 0, 40, 20], [1, 2], [4, 4, 8, 4, 8, 8, 4, 8]]},
        {"id": 3, "image_id": 7, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 100, 50],
         "segmentation": {"size": [1, 2], "counts": [1, 2, 3]}})");
  const auto data = open_dataset(file);
  ASSERT_EQ(data->size(), 2);
  EXPECT_THAT(data->class_names(), ElementsAre("man", "dog")) << "by ascending id";
  RecordScratch scratch;
  Record record = data->record(0, scratch);
  EXPECT_EQ(record.source.path, dir_.file("train2017/a.jpg"));
  ASSERT_EQ(record.boxes.size(), 1u) << "crowds are left out";
  EXPECT_EQ(record.boxes[0].class_id, 1);
  EXPECT_FLOAT_EQ(record.boxes[0].cx, 0.2f);
  EXPECT_FLOAT_EQ(record.boxes[0].cy, 0.2f);
  EXPECT_FLOAT_EQ(record.boxes[0].height, 0.2f);
  record = data->record(1, scratch);
  ASSERT_EQ(record.boxes.size(), 1u);
  EXPECT_FLOAT_EQ(record.boxes[0].width, 0.25f) << "cut at the edge; size from the picture";
  ASSERT_EQ(record.polygons.size(), 2u);
  EXPECT_FLOAT_EQ(record.polygons[0].points[2], 1.0f);
  EXPECT_EQ(record.polygons[1].points.size(), 8u);
}

TEST_F(Coco, OpensTheFolderAndTheOtherSplit) {
  const std::string file = write(kBox);
  EXPECT_EQ(open_dataset(dir_.file(""))->size(), 2);
  EXPECT_THAT(error_of([&] { open_coco(file, {.split = Split::Val}); }),
              HasSubstr("instances_val2017.json: no such data file"));
  std::filesystem::copy(file, dir_.file("annotations/instances_val2017.json"));
  EXPECT_THAT(error_of([&] { open_coco(file, {.split = Split::Val}); }),
              HasSubstr("its images were not found, e.g. a.jpg"));
  EXPECT_EQ(
      open_coco(file, {.split = Split::Val, .image_directory = dir_.file("train2017")})->size(), 2);
}

TEST_F(Coco, RejectsBadAnnotationsByTheirId) {
  std::string many = kBox;
  for (int i = 0; i < 30; ++i) {
    many += R"(, {"id": 9, "image_id": 7, "category_id": 1, "bbox": [)" + std::to_string(i) +
            ", 1, 5, 5]}";
  }
  const auto data =
      open_coco(write(many + R"(, {"id": 50, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3]},
                       {"id": 51, "image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4]},
                       {"id": 52, "image_id": 7, "category_id": 1, "bbox": [200, 2, 3, 4]},
                       {"id": 53, "image_id": 7, "category_id": 18, "bbox": [10, 5, 20, 10]})"));
  std::vector<std::string> reasons;
  for (const DatasetWarning& warning : data->warnings()) reasons.push_back(warning.reason);
  EXPECT_THAT(reasons, ElementsAre("annotation 51: no image has id 99; rejected",
                                   "annotation 50: expected a bbox of 4 numbers, found 3; rejected",
                                   "annotation 52: box without area inside its image; rejected",
                                   "annotation 53: same as another of its image; dropped"));
}

TEST_F(Coco, SaysWhatIsWrong) {
  EXPECT_THAT(error(R"({"id": 4, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]})"),
              HasSubstr("annotation 4: category 2 is out of range"));
  EXPECT_THAT(error(R"({"id": 4, "image_id": 7, "category_id": 1, "bbox": []})"),
              HasSubstr("1 of 1 annotations are bad"));
  EXPECT_THAT(error(R"({"id": 4, "image_id": "x", "category_id": 1})"),
              HasSubstr("annotation 1 has no image_id"));
  EXPECT_THAT(error(kBox, "\"categories\": []"), HasSubstr("names no categories"));
  EXPECT_THAT(error(kBox, ""), HasSubstr("broken JSON: parse error at line"));
  EXPECT_THAT(error(kBox, R"("categories": [{"name": "x"}])"), HasSubstr("category 1 has no id"));
  write_file(dir_.file("r.json"), "[{\"image_id\": 1}]");
  EXPECT_THAT(error_of([&] { open_coco(dir_.file("r.json")); }), HasSubstr("is a list: results"));
  write_file(dir_.file("r.json"), "{}");
  EXPECT_THAT(error_of([&] { open_coco(dir_.file("r.json")); }), HasSubstr("has no 'images'"));
  std::filesystem::remove(dir_.file("train2017/b.jpg"));
  EXPECT_THAT(error(kBox), HasSubstr("no such image: " + dir_.file("train2017/b.jpg")));
}

TEST_F(Coco, KeepsAnIndexUntilAnImageChanges) {
  const std::string file = write(kBox);
  const DatasetOptions options{.index_directory = dir_.file("cache")};
  const auto cold = open_coco(file, options);
  EXPECT_EQ(open_coco(file, options)->fingerprint(), cold->fingerprint());
  write_file(dir_.file("train2017/b.jpg"), test::jpeg_header(40, 20, 3));
  RecordScratch scratch;
  EXPECT_EQ(open_coco(file, options)->record(1, scratch).source.length,
            std::filesystem::file_size(dir_.file("train2017/b.jpg")));
}

}  // namespace
}  // namespace brim
