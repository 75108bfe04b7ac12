#include "brim/dataloader/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>

#include "support/allocations.h"
#include "support/jpeg.h"

namespace brim {
namespace {
using namespace test;
using Fit = DecodeRequest::Fit;
using ::testing::HasSubstr;

void expect_same(const Image& a, const Image& b) {
  ASSERT_EQ(a.width(), b.width());
  ASSERT_EQ(a.height(), b.height());
  EXPECT_EQ(std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()), 0);
}

double mean_difference(const ImageView& a, const ImageView& b) {
  double sum = 0;
  for (int y = 0; y < a.height; ++y) {
    for (int x = 0; x < 3 * a.width; ++x) sum += std::abs(a.row(y)[x] - b.row(y)[x]);
  }
  return sum / (3.0 * a.width * a.height);
}

int largest_difference(const ImageView& a, const ImageView& b) {
  int most = 0;
  for (int y = 0; y < a.height; ++y) {
    for (int i = 0; i < 3 * a.width; ++i)
      most = std::max(most, std::abs(a.row(y)[i] - b.row(y)[i]));
  }
  return most;
}

ByteVector encode_with_opencv(const Image& picture, const std::string& extension) {
  cv::Mat bgr(picture.height(), picture.width(), CV_8UC3);
  const cv::Mat rgb(picture.height(), picture.width(), CV_8UC3,
                    const_cast<std::uint8_t*>(picture.view().data));
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<unsigned char> out;
  cv::imencode(extension, bgr, out);
  const auto* const begin = reinterpret_cast<const std::byte*>(out.data());
  return {begin, begin + out.size()};
}

void put_big_endian(ByteVector& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(std::byte(value >> shift & 255));
}

/// `png` with one more chunk behind its header chunk. Its checksum is left 0.
ByteVector with_chunk(const ByteVector& png, const std::string& name, const ByteVector& data) {
  ByteVector chunk;
  put_big_endian(chunk, static_cast<std::uint32_t>(data.size()));
  for (const char c : name) chunk.push_back(std::byte(c));
  chunk.insert(chunk.end(), data.begin(), data.end());
  put_big_endian(chunk, 0);
  ByteVector result = png;
  result.insert(result.begin() + 33, chunk.begin(), chunk.end());
  return result;
}

std::string error_of(const ByteVector& bytes, const DecodeLimits& limits = {}) {
  Decoder decoder(limits);
  Image image;
  try {
    decoder.decode(bytes, {}, {}, image);
  } catch (const DecodeError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Decoder, GivesThePixelsOfTurboJpeg) {
  Decoder decoder;
  Image image;
  const ByteVector bytes = encode_jpeg(make_picture(241, 163, 3).view());
  const DecodedInfo info = decoder.decode(bytes, {}, {}, image);
  expect_same(image, decode_with_turbojpeg(bytes));
  EXPECT_EQ(info.original_width, 241);
  EXPECT_EQ(info.original_height, 163);
  EXPECT_EQ(info.full_width, image.width());
  EXPECT_EQ(info.full_height, image.height());
}

TEST(Decoder, ReducesAsTurboJpegDoesButForHighFrequencies) {
  Image picture = make_picture(241, 163, 3), image;
  cv::Mat smooth(picture.height(), picture.width(), CV_8UC3, picture.mutable_view().data);
  cv::GaussianBlur(smooth, smooth, {}, 6);
  const ByteVector bytes = encode_jpeg(picture.view());
  Decoder decoder;
  for (const int denominator : {2, 4, 8}) {
    SCOPED_TRACE(denominator);
    const DecodeRequest request{Fit::ShortestSideAtLeast, (163 + denominator - 1) / denominator};
    const DecodedInfo info = decoder.decode(bytes, request, {}, image);
    const Image expected = decode_with_turbojpeg(bytes, denominator);
    ASSERT_EQ(image.width(), expected.width());
    ASSERT_EQ(image.height(), expected.height());
    EXPECT_EQ(info.full_width, image.width());
    EXPECT_EQ(info.full_height, image.height());
    EXPECT_LT(mean_difference(image.view(), expected.view()), 0.3 * denominator);
    EXPECT_LE(largest_difference(image.view(), expected.view()), 2 * denominator);
  }
}

TEST(Decoder, MakesColourGreyThatNoScanHolds) {
  ByteVector bytes = encode_jpeg(make_picture(64, 48, 1).view(), {.separate_scans = true});
  constexpr std::byte kScan[] = {std::byte{0xFF}, std::byte{0xDA}};
  const auto first = std::search(bytes.begin(), bytes.end(), std::begin(kScan), std::end(kScan));
  const auto second = std::search(first + 2, bytes.end(), std::begin(kScan), std::end(kScan));
  ASSERT_NE(second, bytes.end());
  bytes.erase(second, bytes.end());
  bytes.insert(bytes.end(), {std::byte{0xFF}, std::byte{0xD9}});
  Decoder decoder({.truncated = Truncated::Accept});
  Image image;
  for (const int denominator : {1, 2, 4, 8}) {
    SCOPED_TRACE(denominator);
    decoder.decode(bytes, {Fit::ShortestSideAtLeast, 48 / denominator}, {}, image);
    ASSERT_EQ(image.height(), 48 / denominator);
    for (std::size_t i = 0; i < image.bytes().size(); i += 3) {
      ASSERT_EQ(image.bytes()[i], image.bytes()[i + 1]);
      ASSERT_EQ(image.bytes()[i], image.bytes()[i + 2]);
    }
  }
}

TEST(Decoder, AppliesEveryOrientationToJpeg) {
  Decoder decoder;
  Image image;
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const ByteVector bytes =
        encode_jpeg(make_picture(77, 45, 5).view(), {.orientation = orientation});
    const Image stored = decode_with_turbojpeg(bytes);
    decoder.decode(bytes, {}, {}, image);
    expect_same(image, turn_upright(stored.view(), orientation));
    const ImageInfo info = decoder.inspect(bytes);
    EXPECT_EQ(info.orientation, orientation);
    EXPECT_EQ(info.width, image.width());
    EXPECT_EQ(info.height, image.height());
  }
}

TEST(Decoder, AppliesEveryOrientationToReducedJpeg) {
  Decoder decoder;
  Image upright, image;
  const Image picture = make_picture(400, 290, 5);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const DecodeRequest request{Fit::LongestSide, 150};
    decoder.decode(encode_jpeg(picture.view()), request, {}, upright);
    decoder.decode(encode_jpeg(picture.view(), {.orientation = orientation}), request, {}, image);
    EXPECT_EQ(std::max(image.width(), image.height()), 150);
    expect_same(image, turn_upright(upright.view(), orientation));
  }
}

TEST(Decoder, AppliesEveryOrientationToPngAndReducedPng) {
  Decoder decoder;
  Image image, reduced;
  const Image picture = make_picture(60, 40, 9);
  const ByteVector png = encode_with_opencv(picture, ".png");
  Image upright_reduced;
  decoder.decode(png, {Fit::LongestSide, 25}, {}, upright_reduced);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const ByteVector bytes = with_chunk(png, "eXIf", make_exif(orientation));
    decoder.decode(bytes, {}, {}, image);
    expect_same(image, turn_upright(picture.view(), orientation));
    decoder.decode(bytes, {Fit::LongestSide, 25}, {}, reduced);
    expect_same(reduced, turn_upright(upright_reduced.view(), orientation));
    EXPECT_EQ(decoder.inspect(bytes).orientation, orientation);
  }
}

TEST(Decoder, AppliesEveryOrientationToTiff) {
  Decoder decoder;
  Image image, stored;
  stored.resize(3, 2);
  for (int i = 0; i < 18; ++i) {
    stored.mutable_view().data[i] = static_cast<std::uint8_t>((i / 3 + 1) * 10);
  }
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    ByteVector tiff;
    const auto put16 = [&](int v) {
      tiff.push_back(std::byte(v & 255));
      tiff.push_back(std::byte(v >> 8));
    };
    put16(0x4949);
    for (const int v : {42, 8, 0, 10}) put16(v);
    const int entries[10][3] = {{256, 3, 3}, {257, 3, 2},   {258, 3, 8},           {259, 3, 1},
                                {262, 3, 1}, {273, 4, 134}, {274, 3, orientation}, {277, 3, 1},
                                {278, 3, 2}, {279, 4, 6}};
    for (const auto& entry : entries) {
      for (const int v : {entry[0], entry[1], 1, 0, entry[2], 0}) put16(v);
    }
    put16(0), put16(0);
    for (int i = 1; i <= 6; ++i) tiff.push_back(std::byte(i * 10));
    decoder.decode(tiff, {}, {}, image);
    expect_same(image, turn_upright(stored.view(), orientation));
    EXPECT_EQ(decoder.inspect(tiff).width, image.width());
  }
}

TEST(Decoder, ReadsLosslessFormatsExactly) {
  Decoder decoder;
  Image image;
  const Image picture = make_picture(37, 29, 11);
  for (const char* extension : {".png", ".bmp", ".tiff", ".ppm"}) {
    SCOPED_TRACE(extension);
    const DecodedInfo info = decoder.decode(encode_with_opencv(picture, extension), {}, {}, image);
    expect_same(image, picture);
    EXPECT_EQ(info.full_width, 37);
  }
}

TEST(Decoder, ScalesByTheLargestStepThatKeepsTheLongerSide) {
  Decoder decoder;
  const auto denominator = [&](int width, int height, int size) {
    const ByteVector bytes = encode_jpeg(make_picture(width, height, 1).view());
    return decoder.inspect(bytes, {Fit::LongestSide, size}).scale_denominator;
  };
  EXPECT_EQ(denominator(640, 480, 640), 1);
  EXPECT_EQ(denominator(640, 480, 321), 1);
  EXPECT_EQ(denominator(640, 480, 320), 2);
  EXPECT_EQ(denominator(640, 480, 160), 4);
  EXPECT_EQ(denominator(640, 480, 80), 8);
  EXPECT_EQ(denominator(640, 480, 10), 8);
  EXPECT_EQ(denominator(100, 80, 640), 1);
}

TEST(Decoder, NeverEnlarges) {
  Decoder decoder;
  Image image;
  decoder.decode(encode_jpeg(make_picture(50, 40, 1).view()), {Fit::LongestSide, 640}, {}, image);
  EXPECT_EQ(image.width(), 50);
  EXPECT_EQ(image.height(), 40);
}

TEST(Decoder, ReducesAsOpenCvsAreaInterpolationDoes) {
  Decoder decoder;
  Image whole, image;
  for (const int size : {500, 333, 257, 200, 97, 31, 3, 1}) {
    SCOPED_TRACE(size);
    const ByteVector bytes = encode_jpeg(make_picture(501, 307, 7).view());
    decoder.decode(bytes, {Fit::LongestSide, size}, {}, image);
    const int denominator = decoder.inspect(bytes, {Fit::LongestSide, size}).scale_denominator;
    decoder.decode(bytes, {Fit::ShortestSideAtLeast, (307 + denominator - 1) / denominator}, {},
                   whole);
    const cv::Mat from(whole.height(), whole.width(), CV_8UC3, whole.mutable_view().data);
    cv::Mat to;
    cv::resize(from, to, cv::Size(image.width(), image.height()), 0, 0, cv::INTER_AREA);
    EXPECT_EQ(image.width(), size);
    EXPECT_LE(largest_difference(image.view(),
                                 {to.data, to.cols, to.rows, static_cast<std::ptrdiff_t>(to.step)}),
              1);
  }
}

TEST(Decoder, KeepsTheShorterSideWithShortestSideAtLeast) {
  Decoder decoder;
  Image image;
  const ByteVector bytes = encode_jpeg(make_picture(500, 375, 2).view());
  decoder.decode(bytes, {Fit::ShortestSideAtLeast, 188}, {}, image);
  EXPECT_EQ(image.height(), 188);
  EXPECT_EQ(image.width(), 250);
  decoder.decode(bytes, {Fit::ShortestSideAtLeast, 189}, {}, image);
  EXPECT_EQ(image.height(), 375);
}

TEST(Decoder, DecodesOnlyTheRegion) {
  Decoder decoder;
  Image image;
  const ByteVector bytes = encode_jpeg(make_picture(300, 200, 2).view());
  const DecodedInfo info =
      decoder.decode(bytes, {}, RegionF{.x = 0.5, .y = 0.25, .width = 0.1, .height = 0.5}, image);
  EXPECT_EQ(info.region_x, 150);
  EXPECT_EQ(info.region_y, 50);
  EXPECT_EQ(image.width(), 30);
  EXPECT_EQ(image.height(), 100);
  EXPECT_EQ(info.full_width, 300);
}

TEST(Decoder, RefusesBombsByTheirHeader) {
  const ByteVector bytes = encode_jpeg(make_picture(300, 200, 2).view());
  EXPECT_THAT(error_of(bytes, {.max_pixels = 59999}), HasSubstr("larger than the limit"));
  EXPECT_EQ(error_of(bytes, {.max_pixels = 60000}), "no error");
  EXPECT_THAT(error_of(bytes, {.max_bytes = 100000}), HasSubstr("100000 are allowed"));
  EXPECT_EQ(error_of(bytes, {.max_bytes = 400000}), "no error");
}

TEST(Decoder, CountsTheCoefficientsOfProgressiveFiles) {
  const Image picture = make_picture(640, 480, 2);
  const DecodeLimits limits{.max_bytes = 3 * 640 * 480 + 100000};
  EXPECT_EQ(error_of(encode_jpeg(picture.view()), limits), "no error");
  EXPECT_THAT(error_of(encode_jpeg(picture.view(), {.progressive = true}), limits),
              HasSubstr("are allowed"));
}

TEST(Decoder, RefusesAClaimedSizeThatTheBytesCannotHold) {
  ByteVector bytes = encode_jpeg(make_picture(64, 64, 2).view());
  for (std::size_t i = 0; i + 9 < bytes.size(); ++i) {
    if (bytes[i] == std::byte{0xFF} && bytes[i + 1] == std::byte{0xC0}) {
      for (const std::size_t at : {5, 7}) bytes[i + at] = std::byte{0x4E};  // 20000-odd
      break;
    }
  }
  reset_allocations();
  EXPECT_THAT(error_of(bytes), HasSubstr("cannot hold"));
  if (counts_allocations()) {
    EXPECT_LT(allocations().peak_bytes, 1 << 20);
  }
}

TEST(Decoder, TellsWhyAFileIsBad) {
  const ByteVector good = encode_jpeg(make_picture(64, 64, 2).view());
  const ByteVector half(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(good.size() / 2));
  EXPECT_THAT(error_of(half), HasSubstr("truncated JPEG"));
  EXPECT_THAT(error_of({}), HasSubstr("empty"));
  EXPECT_THAT(error_of(ByteVector(100, std::byte{'a'})), HasSubstr("looks like text"));
  const std::string gif = "GIF89a..........";
  const auto* const begin = reinterpret_cast<const std::byte*>(gif.data());
  EXPECT_THAT(error_of({begin, begin + gif.size()}), HasSubstr("GIF is not supported"));
  const ByteVector png = encode_with_opencv(make_picture(64, 64, 2), ".png");
  EXPECT_THAT(error_of({png.begin(), png.end() - 12}), HasSubstr("truncated png"));
}

TEST(Decoder, IsUsableAfterAnError) {
  Decoder decoder;
  Image image, again;
  const ByteVector good = encode_jpeg(make_picture(120, 90, 2).view());
  ByteVector bad(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(good.size() / 2));
  decoder.decode(good, {}, {}, image);
  EXPECT_THROW(decoder.decode(bad, {}, {}, again), DecodeError);
  decoder.decode(good, {}, {}, again);
  expect_same(image, again);
}

/// A file without quantisation tables must not be decoded with those of the file before.
TEST(Decoder, ForgetsTheTablesOfTheFileBefore) {
  const ByteVector good = encode_jpeg(make_picture(64, 64, 2).view());
  ByteVector without = good;
  for (std::size_t i = 2; i + 4 < without.size();) {
    const auto marker = std::to_integer<unsigned>(without[i + 1]);
    const std::size_t length = std::to_integer<std::size_t>(without[i + 2]) * 256 +
                               std::to_integer<std::size_t>(without[i + 3]) + 2;
    if (marker == 0xDA) break;
    const auto at = without.begin() + static_cast<std::ptrdiff_t>(i);
    if (marker == 0xDB || marker == 0xC4) {
      without.erase(at, at + static_cast<std::ptrdiff_t>(length));
    } else {
      i += length;
    }
  }
  Decoder decoder;
  Image image;
  decoder.decode(good, {}, {}, image);
  EXPECT_THROW(decoder.decode(without, {}, {}, image), DecodeError);
}

TEST(Decoder, AllocatesNothingPerJpegInSteadyState) {
  if (!counts_allocations()) GTEST_SKIP() << "sanitizers have their own allocator";
  const Image picture = make_picture(640, 480, 4);
  const DecodeRequest requests[] = {{}, {Fit::LongestSide, 500}, {Fit::ShortestSideAtLeast, 200}};
  for (const bool progressive : {false, true}) {
    for (const int orientation : {1, 6}) {
      const ByteVector bytes =
          encode_jpeg(picture.view(), {.progressive = progressive, .orientation = orientation});
      Decoder decoder;
      Image image;
      const auto pass = [&] {
        for (const DecodeRequest& request : requests) {
          decoder.decode(bytes, request, {}, image);
          decoder.decode(bytes, request, RegionF{.x = 0.2, .y = 0.1, .width = 0.5, .height = 0.6},
                         image);
        }
      };
      for (int i = 0; i < 3; ++i) pass();
      reset_allocations();
      pass();
      EXPECT_EQ(allocations().count, 0)
          << "progressive " << progressive << ", orientation " << orientation;
    }
  }
}

TEST(Decoder, NeedsOnlyStripsToReduceALargeJpeg) {
  if (!counts_allocations()) GTEST_SKIP() << "sanitizers have their own allocator";
  const ByteVector bytes = encode_jpeg(make_picture(3000, 2000, 4).view());
  Decoder decoder;
  Image image;
  reset_allocations();
  decoder.decode(bytes, {Fit::LongestSide, 1000}, {}, image);
  EXPECT_LT(allocations().peak_bytes, 3 * 1000 * 667 + (1 << 20));
}

TEST(Decoder, StopsBetweenRowsOnceItIsCalledOffAndWorksAgainAfterwards) {
  std::atomic<bool> called_off = false;
  Decoder decoder, other;
  decoder.call_off_when(called_off);
  for (const bool progressive : {false, true}) {
    const ByteVector bytes =
        encode_jpeg(make_picture(200, 100, 3).view(), {.progressive = progressive});
    const auto choose = [&](int, int) {  // asked between the header and the first row
      called_off = true;
      return std::nullopt;
    };
    Image image, wanted;
    EXPECT_THROW(decoder.decode_chosen(bytes, {}, choose, image), CalledOff);
    EXPECT_THROW(decoder.decode(bytes, {}, {}, image), CalledOff);
    EXPECT_THROW(decoder.convert_gray(ByteVector(4), 2, 2, {}, image), CalledOff);
    called_off = false;
    decoder.decode(bytes, {}, {}, image);
    other.decode(bytes, {}, {}, wanted);
    expect_same(image, wanted);
  }
}

TEST(Decoder, ConvertsGreyPixels) {
  Decoder decoder;
  Image image;
  const ByteVector gray{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  const DecodedInfo info = decoder.convert_gray(gray, 2, 2, {}, image);
  EXPECT_EQ(info.full_width, 2);
  const std::uint8_t wanted[] = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4};
  EXPECT_EQ(std::memcmp(image.view().data, wanted, sizeof wanted), 0);
  decoder.convert_gray(gray, 2, 2, {Fit::LongestSide, 1}, image);
  EXPECT_EQ(image.width(), 1);
  EXPECT_EQ(image.view().data[0], 3);  // 2.5, rounded
  EXPECT_THROW(decoder.convert_gray(gray, 3, 2, {}, image), DecodeError);
}

TEST(Decoder, NamesWhatThePixelsDependOn) {
  const std::string full = decode_recipe({}, {});
  const std::string longest = decode_recipe({Fit::LongestSide, 640}, {});
  EXPECT_NE(full, longest);
  EXPECT_NE(longest, decode_recipe({Fit::LongestSide, 320}, {}));
  EXPECT_NE(longest, decode_recipe({Fit::ShortestSideAtLeast, 640}, {}));
  EXPECT_NE(full, decode_recipe({}, {.truncated = Truncated::Accept}));
  EXPECT_EQ(full, decode_recipe({}, {.max_pixels = 5}));
}

TEST(Decoder, SaysItsPlanInWords) {
  Decoder decoder;
  const ByteVector bytes = encode_jpeg(make_picture(1000, 500, 1).view(), {.progressive = true});
  const ImageInfo info = decoder.inspect(bytes, {Fit::LongestSide, 320});
  EXPECT_EQ(info.format, "progressive jpeg");
  EXPECT_EQ(info.plan, "libjpeg-turbo at 1/2, then area to 320x160");
}

}  // namespace
}  // namespace brim
