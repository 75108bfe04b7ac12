#include "dataloader/src/decode_reduced.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <set>

#include "brim/dataloader/random.h"

namespace brim {
namespace {

using Pixels = std::array<int, 16>;

/// One block with its quantisation table, as libjpeg hands it over.
struct Block {
  JBLOCK coefficients{};
  JQUANT_TBL table{};

  Pixels inverse(int size) {
    jpeg_component_info component{};
    component.quant_table = &table;
    std::array<std::array<JSAMPLE, 8>, 4> memory{};
    std::array<JSAMPROW, 4> rows{};
    for (std::size_t y = 0; y < 4; ++y) rows[y] = memory[y].data();
    const auto transform = size == 2 ? detail::inverse_dct_2x2 : detail::inverse_dct_4x4;
    transform(nullptr, &component, coefficients, rows.data(), 3);
    Pixels result{};
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x)
        result[size_t(y * size + x)] = memory[size_t(y)][size_t(3 + x)];
    }
    return result;
  }
};

/// Inverse of the orthonormal DCT-II of `size` points, of the low frequencies of an 8x8 block.
double exact(const Block& block, int size, int x, int y) {
  const auto basis = [size](int u, int at) {
    const double scale = std::sqrt((u == 0 ? 1.0 : 2.0) / size);
    return scale * std::cos((2 * at + 1) * u * std::numbers::pi / (2 * size));
  };
  double sum = 0;
  for (int v = 0; v < size; ++v) {
    for (int u = 0; u < size; ++u) {
      const double value = block.coefficients[8 * v + u] * double(block.table.quantval[8 * v + u]);
      sum += value * basis(u, x) * basis(v, y);
    }
  }
  return std::clamp(sum * size / 8 + 128, 0.0, 255.0);
}

Block random_block(Generator& random) {
  Block block;
  for (int i = 0; i < 64; ++i) {
    block.table.quantval[i] = static_cast<UINT16>(1 + random.below(40));
    const auto most = static_cast<int>((i == 0 ? 1000 : 300) / block.table.quantval[i]);
    const bool present = i == 0 || random.below(3) == 0;
    if (present) {
      block.coefficients[i] = static_cast<JCOEF>(int(random.below(2 * unsigned(most) + 1)) - most);
    }
  }
  return block;
}

TEST(ReducedDct, IsTheInverseTransformOfTheLowFrequencies) {
  for (const int size : {2, 4}) {
    double off = 0;
    for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
      Generator random(seed, Purpose::User);
      Block block = random_block(random);
      const Pixels pixels = block.inverse(size);
      for (int y = 0; y < size; ++y) {
        for (int x = 0; x < size; ++x) {
          const double wanted = exact(block, size, x, y);
          ASSERT_NEAR(pixels[size_t(y * size + x)], wanted, 0.6) << "seed " << seed;
          off += pixels[size_t(y * size + x)] - wanted;
        }
      }
    }
    EXPECT_NEAR(off / (2000 * size * size), 0, size == 2 ? 0.1 : 0.02);
  }
}

TEST(ReducedDct, AFlatBlockIsItsMean) {
  for (int mean = -1100; mean <= 1100; ++mean) {
    Block block;
    std::fill_n(block.table.quantval, 64, UINT16{1});
    block.coefficients[0] = static_cast<JCOEF>(mean);
    const int wanted = std::clamp(static_cast<int>(std::floor(mean / 8.0 + 0.5)) + 128, 0, 255);
    Pixels four{}, two{};
    four.fill(wanted);
    std::fill_n(two.begin(), 4, wanted);
    ASSERT_EQ(block.inverse(4), four);
    ASSERT_EQ(block.inverse(2), two);
    block.coefficients[63] = 7;  // beyond what counts
    ASSERT_EQ(block.inverse(4), four);
    // The same through the arithmetic for blocks that are not flat.
    block.coefficients[27] = 1;
    block.table.quantval[27] = 0;
    ASSERT_EQ(block.inverse(4), four);
  }
}

TEST(ReducedDct, DependsOnEveryCoefficientUpToTheLastOneOnly) {
  constexpr std::array<int, 64> kZigzag{
      0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
      41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
      30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};
  for (const int size : {2, 4}) {
    int last = 0;
    for (int k = 0; k < 64; ++k) {
      Block block;
      std::fill_n(block.table.quantval, 64, UINT16{16});
      const Pixels before = block.inverse(size);
      block.coefficients[kZigzag[size_t(k)]] = 20;
      if (block.inverse(size) != before) last = k;
    }
    EXPECT_EQ(last, detail::last_coefficient(size));
  }
}

TEST(ReducedDct, TakesAnyNumbersOfADamagedFile) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Generator random(seed, Purpose::User);
    Block block;
    for (int i = 0; i < 64; ++i) {
      block.table.quantval[i] = static_cast<UINT16>(random.below(1 << 16));
      block.coefficients[i] = static_cast<JCOEF>(random.below(1 << 16));
    }
    for (const int size : {2, 4}) seen.insert(block.inverse(size)[0]);
  }
  EXPECT_GT(seen.size(), 1u);
}

}  // namespace
}  // namespace brim
