#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "brim/dataloader/decode.h"
#include "brim/dataloader/random.h"
#include "support/jpeg.h"
#include "support/test_data.h"

namespace brim {
namespace {
using namespace test;
using Fit = DecodeRequest::Fit;

bool same(const Image& a, const Image& b) {
  return a.width() == b.width() && a.height() == b.height() &&
         std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()) == 0;
}

/// Noise of any strength gives every run, size and code length there is.
Image make_noise(int width, int height, Generator& random) {
  Image image;
  image.resize(width, height);
  const std::uint64_t strength = 1 + random.below(256);
  const bool sparse = random.chance(0.5);
  for (int i = 0; i < 3 * width * height; ++i) {
    const bool keep = sparse && random.below(9) != 0;
    image.mutable_view().data[i] =
        keep ? 128 : static_cast<std::uint8_t>(random.below(strength) + (256 - strength) / 2);
  }
  return image;
}

/// A progressive file of the same picture holds the same coefficients, and libjpeg reads them.
TEST(HuffmanReader, GivesLibjpegsPixelsAtEveryQualitySamplingAndScale) {
  Decoder decoder;
  Image image, other;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    Generator random(seed, Purpose::User);
    const int width = 16 + static_cast<int>(random.below(150));
    const int height = 16 + static_cast<int>(random.below(150));
    JpegOptions options{.quality = 1 + static_cast<int>(random.below(100)),
                        .h_factor = 1 + static_cast<int>(random.below(2)),
                        .v_factor = 1 + static_cast<int>(random.below(2)),
                        .gray = random.chance(0.2),
                        .optimize = random.chance(0.5),
                        .restart_interval = random.chance(0.4) ? 1 + int(random.below(9)) : 0};
    const Image noise = make_noise(width, height, random);
    const ByteVector bytes = encode_jpeg(noise.view(), options);
    const int denominator = 1 << random.below(4);
    const int size = (std::min(width, height) + denominator - 1) / denominator;
    const DecodeRequest request{denominator == 1 ? Fit::Full : Fit::ShortestSideAtLeast, size};
    const int chosen = decoder.inspect(bytes, request).scale_denominator;
    decoder.decode(bytes, request, {}, image);
    options.progressive = true;
    ASSERT_EQ(decoder.decode(encode_jpeg(noise.view(), options), request, {}, other).full_width,
              image.width());
    ASSERT_TRUE(same(image, other)) << "seed " << seed << ", quality " << options.quality;
    if (chosen > 1) continue;
    ASSERT_TRUE(same(image, decode_with_turbojpeg(bytes)))
        << "seed " << seed << ", quality " << options.quality;
  }
}

TEST(HuffmanReader, GivesTurboJpegsPixelsForRealFiles) {
  BRIM_TEST_DATA_OR_SKIP(root, "data");
  Decoder decoder;
  Image image;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".jpg" || path.find("awkward") != std::string::npos) continue;
    if (++files % 5 != 0) continue;
    const ByteVector bytes = read_bytes_of(path);
    if (decoder.inspect(bytes).orientation != 1) continue;
    decoder.decode(bytes, {}, {}, image);
    EXPECT_TRUE(same(image, decode_with_turbojpeg(bytes))) << path;
  }
  EXPECT_GT(files, 1000);
}

}  // namespace
}  // namespace brim
