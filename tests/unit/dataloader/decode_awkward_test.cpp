#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "brim/dataloader/decode.h"
#include "support/allocations.h"
#include "support/jpeg.h"
#include "support/test_data.h"
#include "support/tsv.h"

namespace brim {
namespace {
using namespace test;

/// Mean over the grid of the manifest: at most 512 rows and columns.
double grid_mean(const ImageView& image) {
  const int step_y = std::max(1, image.height / 512), step_x = std::max(1, image.width / 512);
  double sum = 0;
  std::int64_t count = 0;
  for (int y = 0; y < image.height; y += step_y) {
    for (int x = 0; x < image.width; x += step_x, count += 3) {
      const std::uint8_t* p = image.row(y) + 3 * x;
      sum += p[0] + p[1] + p[2];
    }
  }
  return sum / static_cast<double>(count);
}

std::string shape(const ImageView& image) {
  return std::to_string(image.height) + "x" + std::to_string(image.width) + "x3 uint8";
}

TEST(AwkwardFiles, EachRowOfTheManifestHolds) {
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  Decoder decoder;
  for (const auto& row : read_tsv(manifest)) {
    SCOPED_TRACE(row.at("file") + ": " + row.at("what_is_odd"));
    const ByteVector bytes = read_bytes_of(root + row.at("file"));
    const std::string& expected = row.at("expected");
    Image image;
    std::string error;
    try {
      decoder.decode(bytes, {}, {}, image);
    } catch (const DecodeError& e) {
      error = e.what();
      EXPECT_FALSE(error.empty());
    }
    if (expected == "error") {
      EXPECT_FALSE(error.empty()) << "decoded to " << shape(image.view());
      continue;
    }
    if (expected == "decodes") {
      EXPECT_EQ(error, "");
    }
    if (!error.empty()) continue;
    const std::string& wanted = row.at("cv2_color_HxWxC");
    if (wanted == "-") continue;  // lenient and refused by OpenCV: an image is fine too
    EXPECT_EQ(shape(image.view()), wanted);
    if (expected == "decodes") {
      EXPECT_NEAR(grid_mean(image.view()), std::stod(row.at("cv2_color_mean")), 2.0);
    }
  }
}

TEST(AwkwardFiles, AcceptingTruncatedFilesGivesTheStatedSize) {
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  Decoder strict, tolerant({.truncated = Truncated::Accept});
  Image image;
  for (const char* name :
       {"derived/trunc_50pct.jpg", "derived/no_eoi.jpg", "derived/header_only.jpg",
        "derived/garbage_mid_scan.jpg", "real/sharp_truncated.jpg", "real/truncated_jpeg.jpg",
        "derived/png_no_iend.png"}) {
    SCOPED_TRACE(name);
    const ByteVector bytes = read_bytes_of(root + name);
    EXPECT_THROW(strict.decode(bytes, {}, {}, image), DecodeError);
    ASSERT_NO_THROW(tolerant.decode(bytes, {}, {}, image));
    for (const auto& row : read_tsv(manifest)) {
      if (row.at("file") == name && row.at("cv2_color_HxWxC") != "-") {
        EXPECT_EQ(shape(image.view()), row.at("cv2_color_HxWxC"));
      }
    }
  }
}

TEST(AwkwardFiles, TakeNoMemoryBeyondTwiceTheDecodedSize) {
  if (!counts_allocations()) GTEST_SKIP() << "sanitizers have their own allocator";
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  for (const auto& row : read_tsv(manifest)) {
    SCOPED_TRACE(row.at("file"));
    const ByteVector bytes = read_bytes_of(root + row.at("file"));
    // What libjpeg, zlib and the rest of the runtime take whatever the size.
    constexpr std::int64_t kBase = std::int64_t{2} << 20;
    std::int64_t decoded = 0;
    Decoder decoder;
    reset_allocations();
    {
      Image image;
      try {
        decoder.decode(bytes, {}, {}, image);
        decoded = std::int64_t{3} * image.width() * image.height();
      } catch (const DecodeError&) {
      }
    }
    // A lenient file may fail after the memory of its true size was taken.
    if (decoded == 0 && row.at("expected") == "lenient") decoded = std::int64_t{3} * 2725 * 2225;
    EXPECT_LE(allocations().peak_bytes, 2 * decoded + kBase);
  }
}

TEST(AwkwardFiles, InspectAgreesWithTheDecodedSize) {
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  Decoder decoder;
  Image image;
  for (const auto& row : read_tsv(manifest)) {
    if (row.at("expected") != "decodes") continue;
    SCOPED_TRACE(row.at("file"));
    const ByteVector bytes = read_bytes_of(root + row.at("file"));
    const ImageInfo info = decoder.inspect(bytes, {DecodeRequest::Fit::LongestSide, 64});
    const DecodedInfo decoded = decoder.decode(bytes, {}, {}, image);
    EXPECT_EQ(info.width, image.width());
    EXPECT_EQ(info.height, image.height());
    EXPECT_EQ(info.width, decoded.original_width);
    EXPECT_FALSE(info.format.empty());
    EXPECT_FALSE(info.plan.empty());
  }
}

}  // namespace
}  // namespace brim
