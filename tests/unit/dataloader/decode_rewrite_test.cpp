#include "dataloader/src/decode_rewrite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <string>

#include "brim/dataloader/decode.h"
#include "support/jpeg.h"
#include "support/test_data.h"
#include "support/tsv.h"

namespace brim {
namespace {
using namespace test;
using detail::Bytes;
using detail::JpegRewriter;

/// What a decode gives, an error's text included, as one value to compare.
std::string outcome(Decoder& decoder, Bytes file, const DecodeRequest& request,
                    const std::optional<RegionF>& region) {
  Image image;
  try {
    const DecodedInfo info = decoder.decode(file, request, region, image);
    std::string text =
        std::to_string(info.original_width) + "x" + std::to_string(info.original_height) + " " +
        std::to_string(info.full_width) + "x" + std::to_string(info.full_height) + " at " +
        std::to_string(info.region_x) + "," + std::to_string(info.region_y) + ": ";
    const auto pixels = image.bytes();
    return text.append(reinterpret_cast<const char*>(pixels.data()), pixels.size());
  } catch (const DecodeError& error) {
    return "error";
  }
}

/// Whole, scaled and in part, as strict and as tolerant decoders see it. The part of an image that
/// is decoded around a region may differ between file kinds, so regions are compared by the pixels
/// of the whole.
void expect_same_pixels(Bytes before, Bytes after) {
  for (const Truncated truncated : {Truncated::Reject, Truncated::Accept}) {
    Decoder decoder({.truncated = truncated});
    for (const DecodeRequest& request :
         {DecodeRequest{}, DecodeRequest{DecodeRequest::Fit::LongestSide, 96},
          DecodeRequest{DecodeRequest::Fit::ShortestSideAtLeast, 40}})
      ASSERT_TRUE(outcome(decoder, before, request, {}) == outcome(decoder, after, request, {}));
  }
}

bool contains(Bytes bytes, const std::string& text) {
  const auto* begin = reinterpret_cast<const char*>(bytes.data());
  return std::search(begin, begin + bytes.size(), text.begin(), text.end()) != begin + bytes.size();
}

/// `file` with a comment and a large APP2 segment behind its start marker.
ByteVector with_metadata(ByteVector file) {
  ByteVector extra;
  for (const auto& [marker, length] : {std::pair{0xFE, 300}, std::pair{0xE2, 5000}}) {
    extra.push_back(std::byte{0xFF});
    extra.push_back(static_cast<std::byte>(marker));
    extra.push_back(static_cast<std::byte>((length + 2) >> 8));
    extra.push_back(static_cast<std::byte>((length + 2) & 0xFF));
    for (int i = 0; i < length; ++i) extra.push_back(static_cast<std::byte>("metadata"[i % 8]));
  }
  file.insert(file.begin() + 2, extra.begin(), extra.end());
  return file;
}

TEST(JpegRewriter, MakesProgressiveFilesBaselineWithTheSamePixels) {
  JpegRewriter rewriter;
  Decoder decoder;
  for (int round = 0; round < 24; ++round) {
    JpegOptions options{.quality = 30 + 3 * round,
                        .h_factor = 1 + round % 2,
                        .v_factor = 1 + round / 2 % 2,
                        .gray = round % 5 == 4,
                        .progressive = true,
                        .restart_interval = round % 3,
                        .orientation = round % 9};
    SCOPED_TRACE(round);
    const Image picture = make_picture(61 + 17 * round, 187 - 5 * round, round);
    const ByteVector file = with_metadata(encode_jpeg(picture.view(), options));
    const Bytes made = rewriter.rewrite(file);
    ASSERT_NE(made.data(), file.data());
    EXPECT_EQ(decoder.inspect(made).format, "jpeg");
    EXPECT_EQ(decoder.inspect(made).orientation, std::max(1, options.orientation));
    EXPECT_FALSE(contains(made, "metadata"));
    expect_same_pixels(file, made);
  }
}

TEST(JpegRewriter, TakesMetadataOutOfBaselineFilesAndKeepsTheOrientation) {
  JpegRewriter rewriter;
  Decoder decoder;
  const Image picture = make_picture(160, 120, 7);
  for (int orientation = 0; orientation <= 8; ++orientation) {
    ByteVector file = with_metadata(
        encode_jpeg(picture.view(), {.restart_interval = 4, .orientation = orientation}));
    const std::size_t whole = file.size();
    for (const char c : std::string("a second picture")) file.push_back(static_cast<std::byte>(c));
    const Bytes made = rewriter.rewrite(file);
    EXPECT_LE(made.size() + 5300, whole);
    EXPECT_EQ(decoder.inspect(made).orientation, std::max(1, orientation));
    EXPECT_FALSE(contains(made, "metadata") || contains(made, "second"));
    expect_same_pixels(file, made);
  }
}

TEST(JpegRewriter, LeavesAloneWhatItWouldNotImprove) {
  JpegRewriter rewriter;
  const Image picture = make_picture(160, 120, 7);
  const ByteVector baseline = encode_jpeg(picture.view());
  EXPECT_EQ(rewriter.rewrite(baseline).data(), baseline.data());
  ByteVector cut = encode_jpeg(picture.view(), {.progressive = true});
  cut.resize(cut.size() / 2);
  EXPECT_EQ(rewriter.rewrite(cut).data(), cut.data());
  // A progressive file that ends soundly after its first scans: decoders smooth its blocks.
  cut.push_back(std::byte{0xFF});
  cut.push_back(std::byte{0xD9});
  EXPECT_EQ(rewriter.rewrite(cut).data(), cut.data());
  const ByteVector arithmetic = encode_jpeg(picture.view(), {.arithmetic = true});
  EXPECT_EQ(rewriter.rewrite(arithmetic).data(), arithmetic.data());
  const ByteVector none;
  EXPECT_TRUE(rewriter.rewrite(none).empty());
}

TEST(JpegRewriter, KeepsTheOutcomeOfEveryAwkwardFile) {
  BRIM_TEST_DATA_OR_SKIP(manifest, "data/awkward/MANIFEST.tsv");
  const std::string root = manifest.substr(0, manifest.rfind('/') + 1);
  JpegRewriter rewriter;
  int rewritten = 0;
  for (const auto& row : read_tsv(manifest)) {
    SCOPED_TRACE(row.at("file") + ": " + row.at("what_is_odd"));
    const ByteVector file = read_bytes_of(root + row.at("file"));
    const Bytes made = rewriter.rewrite(file);
    if (made.data() == file.data()) continue;
    ++rewritten;
    expect_same_pixels(file, made);
  }
  EXPECT_GT(rewritten, 5) << "this test looks at nothing";
  std::printf("%d files of the awkward set were rewritten\n", rewritten);
}

TEST(JpegRewriter, KeepsTheOutcomeOfDamagedFiles) {
  JpegRewriter rewriter;
  const Image picture = make_picture(120, 90, 3);
  std::mt19937_64 generator(11);
  for (int round = 0; round < 400; ++round) {
    SCOPED_TRACE(round);
    ByteVector file = with_metadata(
        encode_jpeg(picture.view(), {.progressive = round % 2 == 0, .orientation = round % 9}));
    for (std::uint64_t n = generator() % 4 + 1; n > 0; --n)
      file[generator() % file.size()] = static_cast<std::byte>(generator());
    if (round % 7 == 0) file.resize(generator() % file.size());
    const Bytes made = rewriter.rewrite(file);
    if (made.data() != file.data()) expect_same_pixels(file, made);
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace brim
