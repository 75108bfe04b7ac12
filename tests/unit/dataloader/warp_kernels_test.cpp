#include "dataloader/src/warp_kernels.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "brim/dataloader/random.h"
#include "dataloader/src/colour.h"
#include "dataloader/src/warp_resample.h"

namespace brim::detail {
namespace {

/// An image whose rows end where its heap block ends, so that a sanitizer sees any read past it.
struct Noise {
  Noise(int w, int h, std::uint64_t key) : bytes(static_cast<std::size_t>(w * h * 3)) {
    Generator generator(key, Purpose::User);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(generator.below(256));
    view = {bytes.data(), w, h, std::ptrdiff_t{3} * w};
  }
  std::vector<std::uint8_t> bytes;
  ImageView view;
};

std::vector<Pixel> random_pixels(int count, std::uint64_t key) {
  std::vector<Pixel> pixels(static_cast<std::size_t>(count));
  Generator generator(key, Purpose::User);
  for (Pixel& pixel : pixels) pixel = static_cast<Pixel>(generator.below(1 << 24));
  return pixels;
}

/// Three planes whose values lie within `range` of each other.
PixelRow random_row(std::uint64_t key, int count, int range) {
  PixelRow row;
  row.resize(count);
  Generator generator(key, Purpose::User);
  for (int x = 0; x < count; ++x) {
    const auto least = static_cast<int>(generator.below(static_cast<std::uint64_t>(256 - range)));
    for (int c = 0; c < 3; ++c) {
      row.plane(c)[x] = static_cast<std::uint8_t>(
          least + static_cast<int>(generator.below(static_cast<std::uint64_t>(range) + 1)));
    }
  }
  return row;
}

std::vector<std::uint8_t> bytes_of(const PixelRow& row) {
  std::vector<std::uint8_t> bytes;
  for (int c = 0; c < 3; ++c) {
    bytes.insert(bytes.end(), row.plane(c), row.plane(c) + row.width());
  }
  return bytes;
}

TEST(WarpKernels, SampleTheSameBytesOnEveryInstructionSet) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Generator g(seed, Purpose::Composer);
    const int width = 2 + static_cast<int>(g.below(40)), height = 2 + static_cast<int>(g.below(40));
    const Noise image(width, height, seed);
    Coordinates at;
    for (int i = 0; i < kBlock; ++i) {  // a little beyond every edge too
      at.u[i] = static_cast<std::int32_t>(g.uniform(-2, width + 1) * 65536);
      at.v[i] = static_cast<std::int32_t>(g.uniform(-2, height + 1) * 65536);
    }
    const int count = 1 + static_cast<int>(g.below(kBlock));
    std::vector<Pixel> expected(kBlock + 8), found(kBlock + 8);
    warp_kernels(Isa::Portable).sample(image.view, at, count, 0, expected.data());
    warp_kernels(best_isa()).sample(image.view, at, count, 1 << 20, found.data());
    expected.resize(static_cast<std::size_t>(count));
    found.resize(static_cast<std::size_t>(count));
    ASSERT_EQ(expected, found);
  }
}

TEST(WarpKernels, SampleIsBilinear) {
  const Noise image(9, 7, 3);
  Coordinates at{};
  at.u[0] = (3 << 16) + 0x4000;  // 3.25
  at.v[0] = (5 << 16) + 0x8000;  // 5.5
  std::vector<Pixel> out(8);
  warp_kernels(best_isa()).sample(image.view, at, 1, 0, out.data());
  for (int c = 0; c < 3; ++c) {
    const auto p = [&](int x, int y) { return image.view.row(y)[3 * x + c]; };
    const double expected =
        0.5 * (0.75 * p(3, 5) + 0.25 * p(4, 5) + 0.75 * p(3, 6) + 0.25 * p(4, 6));
    EXPECT_NEAR((out[0] >> (8 * c)) & 255, expected, 0.51);
  }
}

TEST(WarpKernels, CoordinatesSplitBlendAndPackAgreeOnEveryInstructionSet) {
  const WarpKernels &a = warp_kernels(Isa::Portable), &b = warp_kernels(best_isa());
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Generator g(seed, Purpose::Composer);
    const int count = 1 + static_cast<int>(g.below(kBlock));
    Coordinates first{}, second{};
    const Ray ray{g.uniform(0, 90),   g.uniform(0, 1), g.uniform(0, 90), g.uniform(0, 1), 1.0,
                  g.uniform(0, 0.001)};
    a.projective(first, ray, count);
    b.projective(second, ray, count);
    ASSERT_EQ(std::memcmp(&first, &second, sizeof(first)), 0);
    a.affine(first, 77, -1234567, 5, static_cast<int>(g.below(70000)), count);
    b.affine(second, 77, -1234567, 5, first.v[1] - first.v[0], count);
    ASSERT_EQ(std::memcmp(first.u, second.u, static_cast<std::size_t>(count) * 4), 0);

    const std::vector<Pixel> pixels = random_pixels(count, seed);
    const std::vector<Pixel> others = random_pixels(count, seed + 1000);
    PixelRow row = random_row(0, count, 0), same = random_row(0, count, 0);
    PixelRow other = random_row(0, count, 0);
    a.split(pixels.data(), count, row, 0);
    b.split(pixels.data(), count, same, 0);
    a.split(others.data(), count, other, 0);
    ASSERT_EQ(bytes_of(row), bytes_of(same));
    const int weight = static_cast<int>(g.below(257)), begin = count / 3;
    a.blend(row, other, weight, begin, count);
    b.blend(same, other, weight, begin, count);
    ASSERT_EQ(bytes_of(row), bytes_of(same));
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count) * 3), more = bytes;
    a.pack(pixels.data(), count, bytes.data());
    b.pack(pixels.data(), count, more.data());
    ASSERT_EQ(bytes, more);
  }
}

TEST(Colour, GivesTheSameBytesOnEveryInstructionSetAndWritesNothingBesides) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Generator g(seed, Purpose::Colour);
    const ColourGains gains = seed % 7 == 0 ? ColourGains{} : draw_gains(g, 0.5, 0.9, 0.9);
    const int count = 1 + static_cast<int>(g.below(200)), begin = static_cast<int>(g.below(9));
    const PixelRow row = random_row(seed, begin + count, static_cast<int>(1 + g.below(255)));
    std::vector<std::uint8_t> expected(static_cast<std::size_t>(3 * (begin + count) + 9), 55);
    std::vector<std::uint8_t> found = expected;
    write_coloured(gains, row, begin, begin + count, expected.data(), Isa::Portable);
    write_coloured(gains, row, begin, begin + count, found.data(), best_isa());
    ASSERT_EQ(expected, found) << "seed " << seed;
    for (int i = 0; i < 3 * begin; ++i) ASSERT_EQ(found[static_cast<std::size_t>(i)], 55);
    for (int i = 0; i < 9; ++i)
      ASSERT_EQ(found[found.size() - 1 - static_cast<std::size_t>(i)], 55);
  }
}

TEST(Resampler, GivesTheSameBytesOnEveryInstructionSet) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Generator g(seed, Purpose::Crop);
    const int width = 1 + static_cast<int>(g.below(90)), height = 1 + static_cast<int>(g.below(90));
    const Noise image(width, height, seed);
    const double x = g.uniform(0, width * 0.7), y = g.uniform(0, height * 0.7);
    const RectD rect{x, y, g.uniform(x + 0.5, width), g.uniform(y + 0.5, height)};
    Resampler portable(Isa::Portable), best;
    portable.plan(image.view, rect, {37, 23}, {seed % 2 == 0, seed % 3 == 0});
    best.plan(image.view, rect, {37, 23}, {seed % 2 == 0, seed % 3 == 0});
    PixelRow a, b;
    a.resize(37);
    b.resize(37);
    for (int row = 0; row < 23; ++row) {
      portable.row(row, a);
      best.row(row, b);
      ASSERT_EQ(bytes_of(a), bytes_of(b)) << "seed " << seed << " row " << row;
    }
  }
}

}  // namespace
}  // namespace brim::detail
