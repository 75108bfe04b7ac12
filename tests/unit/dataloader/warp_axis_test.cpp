#include "dataloader/src/warp_axis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "brim/dataloader/random.h"

namespace brim::detail {
namespace {

/// A case: two source rows that end where their heap block ends (a sanitizer sees any read past
/// them) and a way to read them.
struct Case {
  explicit Case(std::uint64_t seed) {
    Generator g(seed, Purpose::Composer);
    width = 2 + static_cast<int>(g.below(200));
    output = 1 + static_cast<int>(g.below(150));
    const bool steep = g.chance(0.3);
    du = g.uniform(0.05, steep ? 40.0 : 2.2) * (g.chance(0.5) ? 1 : -1);
    u = du > 0 ? g.uniform(-3, width) : g.uniform(0, width + 3);
    begin = static_cast<int>(g.below(static_cast<std::uint64_t>(output)));
    end = begin + 1 + static_cast<int>(g.below(static_cast<std::uint64_t>(output - begin)));
    bytes.resize(static_cast<std::size_t>(6 * width));
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(g.below(256));
    rows = {bytes.data(), bytes.data() + 3 * width, static_cast<int>(g.below(129))};
    columns.plan(u, du, width, begin, end);
  }
  std::vector<Pixel> paint(Isa isa) {
    std::vector<Pixel> row(static_cast<std::size_t>(output), kUntouched);
    paint_axis_row(isa, rows, columns, begin, end, work, row.data());
    return row;
  }
  double exact(int x, int c) const {
    const double at = std::clamp(u + x * du, 0.0, width - 1.0);
    const int left = std::min(static_cast<int>(at), width - 2);
    const double f = at - left;
    const auto blended = [&](int column) {
      return (rows.top[3 * column + c] * (128 - rows.weight) +
              rows.bottom[3 * column + c] * rows.weight) /
             128.0;
    };
    return blended(left) * (1 - f) + blended(left + 1) * f;
  }

  static constexpr Pixel kUntouched = 0xDEADBEEF;
  int width, output, begin, end;
  double u, du;
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint16_t> work;
  AxisRows rows;
  AxisColumns columns;
};

TEST(AxisWarp, PaintsTheSameBytesOnEveryInstructionSetAndNothingBesides) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Case c(seed);
    const std::vector<Pixel> expected = c.paint(Isa::Portable);
    for (int x = 0; x < c.output; ++x) {
      const bool inside = x >= c.begin && x < c.end;
      ASSERT_EQ(expected[static_cast<std::size_t>(x)] == Case::kUntouched, !inside);
    }
    if (best_isa() != Isa::Portable) {
      ASSERT_EQ(c.paint(Isa::Avx2), expected);
    }
    ASSERT_EQ(c.paint(best_isa()), expected);
  }
}

TEST(AxisWarp, IsBilinear) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Case c(seed);
    const std::vector<Pixel> row = c.paint(best_isa());
    for (int x = c.begin; x < c.end; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        const int found = (row[static_cast<std::size_t>(x)] >> (8 * channel)) & 255;
        ASSERT_NEAR(found, c.exact(x, channel), 0.53) << "pixel " << x << " channel " << channel;
      }
    }
  }
}

}  // namespace
}  // namespace brim::detail
