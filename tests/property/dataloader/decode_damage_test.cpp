#include <gtest/gtest.h>

#include <opencv2/imgcodecs.hpp>
#include <string>

#include "brim/dataloader/decode.h"
#include "brim/dataloader/random.h"
#include "support/jpeg.h"
#include "support/test_data.h"
#include "support/tsv.h"

#define LLVMFuzzerTestOneInput check_jpeg_rewrite
#include "fuzz/jpeg_rewrite_fuzz.cpp"
#undef LLVMFuzzerTestOneInput

namespace brim {
namespace {
using namespace test;
using Fit = DecodeRequest::Fit;

ByteVector encode_png(std::uint64_t seed) {
  Image picture = make_picture(20 + static_cast<int>(seed % 50), 31, seed);
  const cv::Mat pixels(picture.height(), picture.width(), CV_8UC3, picture.mutable_view().data);
  std::vector<unsigned char> out;
  cv::imencode(".png", pixels, out);
  const auto* const begin = reinterpret_cast<const std::byte*>(out.data());
  return {begin, begin + out.size()};
}

ByteVector encode_some_jpeg(std::uint64_t seed) {
  Generator random(seed, Purpose::User);
  JpegOptions options;
  options.h_factor = 1 + static_cast<int>(random.below(2));
  options.v_factor = 1 + static_cast<int>(random.below(2));
  options.progressive = random.chance(0.4);
  options.arithmetic = random.chance(0.1);
  options.restart_interval = random.chance(0.3) ? 2 : 0;
  options.orientation = static_cast<int>(random.below(9));
  return encode_jpeg(make_picture(30 + int(random.below(60)), 41, seed).view(), options);
}

/// Flips, overwrites, cuts or doubles a few bytes.
void damage(ByteVector& bytes, Generator& random) {
  const std::uint64_t times = 1 + random.below(8);
  for (std::uint64_t i = 0; i < times && !bytes.empty(); ++i) {
    const std::size_t at = random.chance(0.5)
                               ? random.below(bytes.size())
                               : random.below(std::min<std::size_t>(bytes.size(), 700));
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random.below(5)) {
      case 0:
        bytes[at] ^= std::byte(1u << random.below(8));
        break;
      case 1:
        bytes[at] = std::byte(random.below(256));
        break;
      case 2:
        bytes[at] = std::byte{0xFF};
        break;
      case 3:
        bytes.insert(place, bytes[random.below(bytes.size())]);
        break;
      default:
        if (random.chance(0.2)) bytes.resize(at);
        break;
    }
  }
}

/// Any bytes give an image or a DecodeError; nothing else leaves the decoder.
TEST(DamagedFiles, GiveAnImageOrADecodeError) {
  Decoder strict({.max_pixels = 4 << 20, .max_bytes = 64 << 20});
  Decoder tolerant({.truncated = Truncated::Accept, .max_pixels = 4 << 20, .max_bytes = 64 << 20});
  Image image;
  int images = 0, errors = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Generator random(seed, Purpose::Partners);
    ByteVector bytes = seed % 4 == 0 ? encode_png(seed / 4 % 40) : encode_some_jpeg(seed % 200);
    damage(bytes, random);
    const DecodeRequest request{static_cast<Fit>(random.below(3)),
                                static_cast<int>(random.below(80))};
    std::optional<RegionF> region;
    if (random.chance(0.5)) region = RegionF{random.uniform(), random.uniform(), 0.4, 0.3};
    try {
      (random.chance(0.5) ? strict : tolerant).decode(bytes, request, region, image);
      ++images;
      EXPECT_GT(image.width() * image.height(), 0);
    } catch (const DecodeError&) {
      ++errors;
    }
  }
  EXPECT_GT(images, 100);
  EXPECT_GT(errors, 100);
}

TEST(DamagedFiles, KeepTheirPixelsOrTheirRefusalWhenRewritten) {
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    Generator random(seed, Purpose::Partners);
    ByteVector bytes = encode_some_jpeg(seed % 200);
    if (seed > 200) damage(bytes, random);
    const auto* const data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    EXPECT_NO_THROW(check_jpeg_rewrite(data, bytes.size())) << "seed " << seed;
  }
}

TEST(DamagedFiles, CutAnywhereAreRefused) {
  Decoder decoder;
  Image image;
  for (const bool png : {false, true}) {
    const ByteVector whole = png ? encode_png(3) : encode_some_jpeg(3);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      const std::span<const std::byte> part(whole.data(), size);
      EXPECT_THROW(decoder.decode(part, {}, {}, image), DecodeError) << size;
    }
  }
}

TEST(DataSetImages, HaveTheStatedShapeAndMean) {
  BRIM_TEST_DATA_OR_SKIP(list, "data/IMAGES.tsv");
  const std::string root = list.substr(0, list.rfind('/') + 1);
  Decoder decoder;
  Image image;
  const auto rows = read_tsv(list);
  for (const auto& row : rows) {
    SCOPED_TRACE(row.at("file"));
    decoder.decode(read_bytes_of(root + row.at("file")), {}, {}, image);
    EXPECT_EQ(std::to_string(image.height()) + "x" + std::to_string(image.width()) + "x3",
              row.at("cv2_color_HxWxC"));
    double sum = 0;
    for (const std::byte b : image.bytes()) sum += std::to_integer<int>(b);
    EXPECT_NEAR(sum / static_cast<double>(image.bytes().size()),
                std::stod(row.at("cv2_color_mean")), 2.0);
  }
  EXPECT_GT(rows.size(), 1000u);
}

}  // namespace
}  // namespace brim
