#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "brim/dataloader/decode.h"
#include "brim/dataloader/random.h"
#include "support/jpeg.h"

namespace brim {
namespace {
using namespace test;
using Fit = DecodeRequest::Fit;

std::string describe(const JpegOptions& o, int width, int height, int denominator) {
  return std::to_string(width) + "x" + std::to_string(height) + " 1/" +
         std::to_string(denominator) + " sampling " + std::to_string(o.h_factor) + "x" +
         std::to_string(o.v_factor) + " " + std::to_string(o.blue_h) + "x" +
         std::to_string(o.blue_v) + " " + std::to_string(o.red_h) + "x" + std::to_string(o.red_v) +
         (o.gray ? " gray" : "") + (o.progressive ? " prog" : "") + (o.arithmetic ? " arith" : "") +
         " restart " + std::to_string(o.restart_interval) + " orientation " +
         std::to_string(o.orientation) + " quality " + std::to_string(o.quality);
}

/// First place where `part` differs from `whole` at the offset; empty: equal.
std::string first_difference(const Image& whole, const Image& part, const DecodedInfo& info) {
  for (int y = 0; y < part.height(); ++y) {
    const std::uint8_t* a = whole.view().row(info.region_y + y) + 3 * info.region_x;
    const std::uint8_t* b = part.view().row(y);
    for (int i = 0; i < 3 * part.width(); ++i) {
      if (a[i] != b[i]) {
        return "x " + std::to_string(i / 3) + " y " + std::to_string(y) + " of " +
               std::to_string(part.width()) + "x" + std::to_string(part.height()) + " at " +
               std::to_string(info.region_x) + "," + std::to_string(info.region_y);
      }
    }
  }
  return {};
}

void check_one(std::uint64_t seed) {
  Generator random(seed, Purpose::User);
  constexpr int kFactors[][2] = {{1, 1}, {2, 1}, {2, 2}, {1, 2}, {4, 1}, {4, 2}, {1, 4}};
  const auto pick = static_cast<std::size_t>(random.below(std::size(kFactors)));
  JpegOptions options{.quality = 30 + static_cast<int>(random.below(70)),
                      .h_factor = kFactors[pick][0],
                      .v_factor = kFactors[pick][1],
                      .gray = random.chance(0.1),
                      .progressive = random.chance(0.2),
                      .arithmetic = random.chance(0.05),
                      .restart_interval = random.chance(0.2) ? 1 + int(random.below(7)) : 0,
                      .orientation = static_cast<int>(random.below(9))};
  if (random.chance(0.15)) {  // samplings that no camera writes but the format allows
    options.h_factor = options.v_factor = 2;
    options.blue_h = 1 + static_cast<int>(random.below(2));
    options.blue_v = 1 + static_cast<int>(random.below(2));
    options.red_h = 1 + static_cast<int>(random.below(2));
    options.red_v = options.blue_h * options.blue_v == 4 ? 1 : 1 + int(random.below(2));
  }
  const int width = 1 + static_cast<int>(random.below(random.chance(0.2) ? 40 : 420));
  const int height = 1 + static_cast<int>(random.below(random.chance(0.2) ? 40 : 420));
  const ByteVector bytes = encode_jpeg(make_picture(width, height, seed).view(), options);
  const int wanted = 1 << random.below(4);
  const int size = wanted == 1 ? 0 : (std::min(width, height) + wanted - 1) / wanted;
  const DecodeRequest request{size == 0 ? Fit::Full : Fit::ShortestSideAtLeast, size};

  Decoder decoder;
  Image whole, part;
  decoder.decode(bytes, request, {}, whole);
  for (int i = 0; i < 6; ++i) {
    RegionF region;
    region.width = random.uniform(0, 1);
    region.height = random.uniform(0, 1);
    region.x = random.uniform(0, 1 - region.width);
    region.y = random.uniform(0, 1 - region.height);
    if (random.chance(0.1)) region.x = 0, region.width = 1;
    if (random.chance(0.1)) region.y = 1 - region.height;
    const DecodedInfo info = decoder.decode(bytes, request, region, part);
    ASSERT_EQ(info.full_width, whole.width());
    ASSERT_EQ(info.full_height, whole.height());
    ASSERT_LE(info.region_x + part.width(), whole.width());
    ASSERT_LE(info.region_y + part.height(), whole.height());
    ASSERT_LE(info.region_x, region.x * whole.width());
    ASSERT_GE(info.region_x + part.width() + 1e-9, (region.x + region.width) * whole.width());
    ASSERT_EQ(first_difference(whole, part, info), "")
        << "seed " << seed << ": " << describe(options, width, height, wanted);
  }
}

TEST(RegionDecode, EqualsTheSamePartOfTheWholeDecode) {
  for (std::uint64_t seed = 1; seed <= 800; ++seed) {
    ASSERT_NO_FATAL_FAILURE(check_one(seed)) << "seed " << seed;
  }
}

/// A file is bad or good whatever part of it is wanted.
TEST(RegionDecode, FindsDamageOutsideTheRegion) {
  Decoder decoder;
  Image image;
  int refused = 0, damaged = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Generator random(seed, Purpose::User);
    ByteVector bytes =
        encode_jpeg(make_picture(200, 150, seed).view(), {.h_factor = random.chance(0.5) ? 2 : 1});
    const std::size_t at = bytes.size() / 2 + random.below(bytes.size() / 2);
    if (random.chance(0.3)) bytes.resize(at);
    if (at < bytes.size()) bytes[at] ^= std::byte(1 + random.below(255));
    const auto refuses = [&](const std::optional<RegionF>& region) {
      try {
        decoder.decode(bytes, {}, region, image);
        return false;
      } catch (const DecodeError&) {
        return true;
      }
    };
    const bool whole = refuses({});
    refused += whole ? 1 : 0;
    ++damaged;
    EXPECT_EQ(whole, refuses(RegionF{.x = 0.1, .y = 0, .width = 0.3, .height = 0.2}))
        << "seed " << seed;
    EXPECT_EQ(whole, refuses(RegionF{.x = 0.5, .y = 0.8, .width = 0.5, .height = 0.1}))
        << "seed " << seed;
  }
  EXPECT_GT(refused, damaged / 4);
}

}  // namespace
}  // namespace brim
