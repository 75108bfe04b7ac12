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

std::vector<Pixel> random_row(int count, std::uint64_t key) {
  std::vector<Pixel> row(static_cast<std::size_t>(count));
  Generator generator(key, Purpose::User);
  for (Pixel& pixel : row) pixel = static_cast<Pixel>(generator.below(1 << 24));
  return row;
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

TEST(WarpKernels, CoordinatesBlendAndPackAgreeOnEveryInstructionSet) {
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

    std::vector<Pixel> row = random_row(count, seed), same = row;
    const std::vector<Pixel> other = random_row(count, seed + 1000);
    const int weight = static_cast<int>(g.below(257));
    a.blend(row.data(), other.data(), weight, count);
    b.blend(same.data(), other.data(), weight, count);
    ASSERT_EQ(row, same);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count) * 3), more = bytes;
    a.pack(row.data(), count, bytes.data());
    b.pack(row.data(), count, more.data());
    ASSERT_EQ(bytes, more);
    if (best_isa() != Isa::Portable) {
      warp_kernels(Isa::Avx2).pack(row.data(), count, more.data());
      ASSERT_EQ(bytes, more);
    }
  }
}

TEST(Colour, GivesTheSameBytesOnEveryInstructionSet) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Generator g(seed, Purpose::Colour);
    const ColourGains gains = draw_gains(g, 0.5, 0.9, 0.9);
    std::vector<Pixel> row = random_row(333, seed), avx2 = row, best = row;
    apply_colour(gains, row.data(), 333, Isa::Portable);
    if (best_isa() != Isa::Portable) {
      apply_colour(gains, avx2.data(), 333, Isa::Avx2);
      ASSERT_EQ(row, avx2) << "seed " << seed;
    }
    apply_colour(gains, best.data(), 333, best_isa());
    ASSERT_EQ(row, best) << "seed " << seed;
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
    std::vector<Pixel> a(37), b(37);
    for (int row = 0; row < 23; ++row) {
      portable.row(row, a.data());
      best.row(row, b.data());
      ASSERT_EQ(a, b) << "seed " << seed << " row " << row;
    }
  }
}

}  // namespace
}  // namespace brim::detail
