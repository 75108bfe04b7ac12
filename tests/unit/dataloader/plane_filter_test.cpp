#include "dataloader/src/plane_filter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "brim/dataloader/random.h"

namespace brim::detail {
namespace {

/// Source rows that end where their heap blocks end (a sanitizer sees any read past them) and a
/// drawn way to weigh them.
struct Case {
  explicit Case(std::uint64_t seed) : g(seed, Purpose::Composer) {
    width = 1 + static_cast<int>(g.below(200));
    output = 1 + static_cast<int>(g.below(150));
    draw_columns();
    const std::size_t count = 2 * (1 + g.below(3));
    row_weights = draw_weights(static_cast<int>(count));
    for (std::size_t k = 0; k < count; ++k) {
      auto& row = bytes.emplace_back(static_cast<std::size_t>(3 * width));
      for (auto& byte : row) byte = static_cast<std::uint8_t>(g.below(256));
      rows.push_back(row.data());
    }
  }

  void draw_columns() {
    taps = 2 * (1 + static_cast<int>(g.below(3)));
    begin = static_cast<int>(g.below(static_cast<std::uint64_t>(output)));
    end = begin + 1 + static_cast<int>(g.below(static_cast<std::uint64_t>(output - begin)));
    const double step = g.uniform(0.05, g.chance(0.3) ? 40.0 : 4.8) * (g.chance(0.5) ? 1 : -1);
    const double start = step > 0 ? g.uniform(-3, width) : g.uniform(0, width + 3);
    columns.begin_plan(begin, end, taps);
    for (int x = begin; x < end; ++x) {
      first.push_back(std::clamp(static_cast<int>(start + x * step), 0, width - 1));
      weights.push_back(draw_weights(taps));
      std::copy_n(weights.back().data(), taps, columns.set(x, first.back()));
    }
    columns.end_plan(0, width);
  }

  std::vector<std::uint8_t> draw_weights(int count) {
    std::vector<double> shares(static_cast<std::size_t>(count));
    for (double& share : shares) share = g.chance(0.3) ? 0 : g.uniform();
    if (g.chance(0.1)) std::fill(shares.begin() + 1, shares.end(), 0.0);
    shares[0] += 0.01;
    const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (double& share : shares) share /= total;
    std::vector<std::uint8_t> rounded(shares.size());
    to_weights(shares.data(), count, rounded.data());
    return rounded;
  }

  PixelRow paint(Isa isa) const {
    BlendedRow blended;
    blended.blend(isa, {rows.data(), row_weights.data(), static_cast<int>(rows.size())},
                  columns.first_column(), columns.column_count(), taps);
    PixelRow row;
    row.resize(output);
    row.fill(0, output, kUntouched);
    columns.apply(isa, blended, row);
    return row;
  }

  static double mean(const std::vector<std::uint8_t>& weights, const std::vector<double>& values) {
    double sum = 0, total = 0;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      sum += weights[k] * values[k];
      total += weights[k];
    }
    return total == 0 ? values[0] : sum / total;
  }

  double exact(int x, int channel) const {
    std::vector<double> across;
    const auto i = static_cast<std::size_t>(x - begin);
    for (int k = 0; k < taps; ++k) {
      const int column = std::min(first[i] + k, width - 1);
      std::vector<double> down;
      for (const std::uint8_t* row : rows) down.push_back(row[3 * column + channel]);
      across.push_back(mean(row_weights, down));
    }
    return mean(weights[i], across);
  }

  static constexpr std::uint8_t kUntouched = 77;
  Generator g;
  int width, output, begin = 0, end = 0, taps = 2;
  std::vector<int> first;
  std::vector<std::vector<std::uint8_t>> weights;
  std::vector<std::uint8_t> row_weights;
  ColumnFilter columns;
  std::vector<std::vector<std::uint8_t>> bytes;
  std::vector<const std::uint8_t*> rows;
};

TEST(PlaneFilter, GivesTheSameBytesOnEveryInstructionSet) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Case c(seed);
    const PixelRow expected = c.paint(Isa::Portable), found = c.paint(best_isa());
    for (int channel = 0; channel < 3; ++channel) {
      for (int x = 0; x < c.end; ++x) {  // what follows may be lost
        ASSERT_EQ(expected.plane(channel)[x], found.plane(channel)[x]) << "pixel " << x;
        if (x < c.begin) {
          ASSERT_EQ(found.plane(channel)[x], Case::kUntouched);
        }
      }
      for (int x = c.end + 31; x < c.output; ++x) {
        ASSERT_EQ(found.plane(channel)[x], Case::kUntouched);
      }
    }
  }
}

TEST(PlaneFilter, IsTheWeightedMeanOfItsTaps) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Case c(seed);
    const PixelRow row = c.paint(best_isa());
    for (int x = c.begin; x < c.end; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        // Rounded twice, to whole values after either step.
        ASSERT_NEAR(row.plane(channel)[x], c.exact(x, channel), 1.001) << "pixel " << x;
      }
    }
  }
}

TEST(PlaneFilter, WeightsSumToAWholeOrStandForTheFirstTapAlone) {
  const double alone[] = {1, 0}, nearly[] = {0.9995, 0.0005},
               thirds[] = {1 / 3., 1 / 3., 1 / 3., 0};
  std::uint8_t weights[4];
  to_weights(alone, 2, weights);
  EXPECT_EQ(weights[0] + weights[1], 0);
  to_weights(nearly, 2, weights);
  EXPECT_EQ(weights[0] + weights[1], 0);
  to_weights(thirds, 4, weights);
  EXPECT_EQ(weights[0] + weights[1] + weights[2] + weights[3], 256);
  EXPECT_EQ(weights[3], 0);
}

TEST(PixelRow, KeepsItsMemoryAndCopiesParts) {
  PixelRow row, other;
  row.resize(100);
  other.resize(100);
  const std::uint8_t* const memory = row.plane(0);
  row.resize(20);
  row.resize(100);
  EXPECT_EQ(row.plane(0), memory);
  row.fill(0, 100, 1);
  other.fill(0, 100, 9);
  row.copy(other, 40, 60);
  for (int c = 0; c < 3; ++c) {
    for (int x = 0; x < 100; ++x) EXPECT_EQ(row.plane(c)[x], x >= 40 && x < 60 ? 9 : 1);
  }
}

}  // namespace
}  // namespace brim::detail
