#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <numeric>

#include "brim/dataloader/dataset.h"
#include "support/errors.h"
#include "support/test_data.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using test::error_of;
using test::TempDir;
using test::write_file;
using ::testing::HasSubstr;

std::string big32(unsigned value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string images(unsigned count, unsigned height, unsigned width) {
  std::string text = big32(0x803) + big32(count) + big32(height) + big32(width);
  for (unsigned i = 0; i < count * height * width; ++i) text += static_cast<char>(i);
  return text;
}

std::string labels(const std::string& values) {
  return big32(0x801) + big32(static_cast<unsigned>(values.size())) + values;
}

void write_gz(const std::string& path, const std::string& text) {
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

TEST(Idx, ReadsImagesAndLabelsPlainOrCompressed) {
  const TempDir dir;
  write_file(dir.file("train-images-idx3-ubyte"), images(3, 4, 5));
  write_gz(dir.file("train-labels-idx1-ubyte.gz"), labels({0, 2, 1}));
  const auto data = open_dataset(dir.file(""));
  ASSERT_EQ(data->size(), 3);
  EXPECT_EQ(data->task(), Task::Classify);
  EXPECT_EQ(data->class_names(), (std::vector<std::string>{"0", "1", "2"}));
  RecordScratch scratch;
  const Record record = data->record(1, scratch);
  EXPECT_EQ(record.encoding, Encoding::RawGray);
  EXPECT_EQ(record.width, 5);
  EXPECT_EQ(record.height, 4);
  EXPECT_EQ(record.class_id, 2);
  ASSERT_EQ(record.memory.size(), 20u);
  EXPECT_EQ(record.memory[0], std::byte{20});
  EXPECT_EQ(record.source.offset, 36u);
}

TEST(Idx, DamageIsAnError) {
  const TempDir dir;
  const std::string images_file = dir.file("train-images-idx3-ubyte.gz");
  write_file(dir.file("train-labels-idx1-ubyte"), labels({0, 2, 1}));
  const auto error = [&] { return error_of([&] { open_idx(dir.file("")); }); };
  EXPECT_THAT(error(), HasSubstr("no train-images-idx3-ubyte[.gz]"));
  write_gz(images_file, images(2, 4, 5));
  EXPECT_THAT(error(), HasSubstr("holds 2 images, but"));
  write_gz(images_file, images(3, 4, 5).substr(0, 50));
  EXPECT_THAT(error(), HasSubstr(images_file + ": file is cut short"));
  write_gz(images_file, images(3, 4, 5) + "x");
  EXPECT_THAT(error(), HasSubstr("longer than its header says"));
  write_gz(images_file, labels({1}));
  EXPECT_THAT(error(), HasSubstr("not an IDX file of images"));
  write_gz(images_file, big32(0x803) + big32(0xFFFFFFFF) + big32(60000) + big32(60000));
  EXPECT_THAT(error(), HasSubstr("cut short"));
  write_gz(images_file, images(3, 4, 5));
  std::string bytes = test::read_file(images_file);
  write_file(images_file, bytes.substr(0, bytes.size() - 4));
  EXPECT_THAT(error(), HasSubstr(images_file));
  bytes[bytes.size() - 6] = static_cast<char>(bytes[bytes.size() - 6] ^ 1);  // CRC
  write_file(images_file, bytes);
  EXPECT_THAT(error(), HasSubstr(images_file));
}

TEST(Idx, KnowsFashionMnist) {
  const std::string folder = "/usr/share/datasets/fashion-mnist";
  if (!fs::exists(folder)) GTEST_SKIP() << "package dataset-fashion-mnist is not installed";
  const auto val = open_dataset(folder, {.split = Split::Val});
  ASSERT_EQ(val->size(), 10000);
  ASSERT_EQ(val->class_names().size(), 10u);
  EXPECT_EQ(val->class_names()[9], "ankle boot");
  RecordScratch scratch;
  EXPECT_EQ(val->record(0, scratch).class_id, 9);
  std::vector<int> count(10);
  for (std::int64_t i = 0; i < val->size(); ++i) {
    ++count[static_cast<std::size_t>(val->record(i, scratch).class_id)];
  }
  EXPECT_EQ(count, std::vector<int>(10, 1000));
}

}  // namespace
}  // namespace brim
