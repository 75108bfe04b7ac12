#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "brim/dataloader/letterbox.h"

namespace brim {
namespace {

constexpr int kWeightBits = 11;
constexpr int kWeightOne = 1 << kWeightBits;

/// First of the two taps of one output position and the weights of both.
struct Taps {
  std::int32_t first;
  std::int16_t weight0, weight1;
};

/// What OpenCV does with a position beyond the edge pixel's centre: columns give that pixel the
/// whole weight, rows blend it with itself (which rounds differently).
enum class Beyond : std::uint8_t { WholeWeight, BlendWithItself };

/// Taps of a bilinear axis; OpenCV reads position (i + 0.5) * scale - 0.5 as float. For rows
/// `first` may be -1 and its partner may be `from`.
void find_taps(int from, int to, Beyond beyond, std::vector<Taps>& taps) {
  taps.resize(static_cast<std::size_t>(to));
  const double scale = 1.0 / (static_cast<double>(to) / from);
  for (int i = 0; i < to; ++i) {
    auto position = static_cast<float>((i + 0.5) * scale - 0.5);
    auto first = static_cast<int>(std::floor(position));
    position -= static_cast<float>(first);
    if (beyond == Beyond::WholeWeight && (first < 0 || first >= from - 1)) {
      first = first < 0 ? 0 : from - 1;
      position = 0;
    }
    taps[static_cast<std::size_t>(i)] = {
        first, static_cast<std::int16_t>(std::nearbyint((1.0f - position) * kWeightOne)),
        static_cast<std::int16_t>(std::nearbyint(position * kWeightOne))};
  }
}

void resize_row(const std::uint8_t* from, int from_width, const std::vector<Taps>& taps,
                std::int32_t* out) {
  for (std::size_t i = 0; i < taps.size(); ++i) {
    const Taps tap = taps[i];
    const std::uint8_t* left = from + tap.first * 3;
    const std::uint8_t* right = tap.first + 1 < from_width ? left + 3 : left;
    for (int c = 0; c < 3; ++c) out[3 * i + c] = left[c] * tap.weight0 + right[c] * tap.weight1;
  }
}

/// The two rows blended with OpenCV's 8-bit formula: each product cut to 16 bits before the sum.
void blend_rows(const std::int32_t* __restrict row0, const std::int32_t* __restrict row1,
                Taps weights, std::uint8_t* __restrict out, int count) {
  const int w0 = weights.weight0, w1 = weights.weight1;
  for (int i = 0; i < count; ++i) {
    const int sum = ((w0 * (row0[i] >> 4)) >> 16) + ((w1 * (row1[i] >> 4)) >> 16);
    out[i] = static_cast<std::uint8_t>((sum + 2) >> 2);
  }
}

void halve(const ImageView& from, const MutableImageView& to) {
  for (int y = 0; y < to.height; ++y) {
    const std::uint8_t* a = from.row(2 * y);
    const std::uint8_t* b = from.row(2 * y + 1);
    std::uint8_t* out = to.row(y);
    for (int x = 0; x < to.width; ++x, a += 6, b += 6, out += 3) {
      for (int c = 0; c < 3; ++c) {
        out[c] = static_cast<std::uint8_t>((a[c] + a[c + 3] + b[c] + b[c + 3] + 2) >> 2);
      }
    }
  }
}

}  // namespace

struct ResizeScratch {
  std::vector<Taps> columns, rows;
  std::vector<std::int32_t> held[2];
};

BilinearResizer::BilinearResizer() : scratch_(std::make_unique<ResizeScratch>()) {}
BilinearResizer::~BilinearResizer() = default;
BilinearResizer::BilinearResizer(BilinearResizer&&) noexcept = default;
BilinearResizer& BilinearResizer::operator=(BilinearResizer&&) noexcept = default;

void BilinearResizer::resize(const ImageView& from, const MutableImageView& to) {
  if (from.width == to.width && from.height == to.height) {
    for (int y = 0; y < to.height; ++y) {
      std::memcpy(to.row(y), from.row(y), static_cast<std::size_t>(to.width) * 3);
    }
    return;
  }
  if (from.width == 2 * to.width && from.height == 2 * to.height) {
    halve(from, to);
    return;
  }
  ResizeScratch& s = *scratch_;
  find_taps(from.width, to.width, Beyond::WholeWeight, s.columns);
  find_taps(from.height, to.height, Beyond::BlendWithItself, s.rows);
  const int count = to.width * 3;
  for (auto& row : s.held) row.resize(static_cast<std::size_t>(count));
  int held[2] = {-1, -1};  // which source row each buffer holds; row r always lives in buffer r % 2
  for (int y = 0; y < to.height; ++y) {
    const Taps taps = s.rows[static_cast<std::size_t>(y)];
    const int wanted[2] = {std::clamp(taps.first, 0, from.height - 1),
                           std::clamp(taps.first + 1, 0, from.height - 1)};
    for (const int row : wanted) {
      if (held[row % 2] == row) continue;
      resize_row(from.row(row), from.width, s.columns, s.held[row % 2].data());
      held[row % 2] = row;
    }
    blend_rows(s.held[wanted[0] % 2].data(), s.held[wanted[1] % 2].data(), taps, to.row(y), count);
  }
}

}  // namespace brim
