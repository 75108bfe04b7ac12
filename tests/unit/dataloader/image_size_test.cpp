#include "dataloader/src/dataset_image_size.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim {
namespace {
using detail::HeaderSource;
using detail::ImageSize;

ImageSize size_of(const std::string& bytes) {
  HeaderSource source(std::as_bytes(std::span(bytes)));
  return detail::read_image_size(source);
}

TEST(ImageSize, TurnsByExifOrientation) {
  for (int orientation = 0; orientation <= 8; ++orientation) {
    const ImageSize size = size_of(test::jpeg_header(30, 20, orientation));
    EXPECT_EQ(size.width, orientation >= 5 ? 20 : 30) << orientation;
    EXPECT_EQ(size.height, orientation >= 5 ? 30 : 20) << orientation;
  }
  EXPECT_EQ(size_of(test::jpeg_header(30, 20, 9)).width, 30) << "no such orientation";
}

TEST(ImageSize, NoCutHeaderGivesASize) {
  for (const std::string& whole : {test::jpeg_header(30, 20, 6), test::png_header(30, 20)}) {
    EXPECT_GT(size_of(whole).width, 0);
    for (std::size_t length = 0; length < 24; ++length) {
      EXPECT_EQ(size_of(whole.substr(0, length)).width, 0) << length;
    }
  }
  EXPECT_EQ(size_of("GIF89a..........................").width, 0);
}

TEST(ImageSize, AgreesWithTheDecoderOnEverySharedImage) {
  BRIM_TEST_DATA_OR_SKIP(table, "data/IMAGES.tsv");
  const std::string root = std::filesystem::path(table).parent_path().string() + "/";
  std::istringstream lines(test::read_file(table));
  std::string line;
  std::getline(lines, line);
  int checked = 0;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string file, bytes, hash, shape;
    std::getline(fields, file, '\t'), std::getline(fields, bytes, '\t');
    std::getline(fields, hash, '\t'), std::getline(fields, shape, '\t');
    const int descriptor = ::open((root + file).c_str(), O_RDONLY);
    ASSERT_GE(descriptor, 0) << file;
    HeaderSource source(descriptor, 0, std::stoull(bytes));
    const ImageSize size = detail::read_image_size(source);
    ::close(descriptor);
    EXPECT_EQ(std::to_string(size.height) + "x" + std::to_string(size.width) + "x3", shape) << file;
    ++checked;
  }
  EXPECT_GT(checked, 1000);
}

}  // namespace
}  // namespace brim
