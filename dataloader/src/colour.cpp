#include "colour.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "colour_fixed.h"

namespace brim::detail {
namespace {

FixedGains to_fixed(const ColourGains& gains) {
  return {static_cast<std::uint16_t>(std::clamp(gains.value * 16384.0f + 0.5f, 0.0f, 65535.0f)),
          static_cast<std::int16_t>(std::clamp((gains.hue - 1) * 32768.0f, -32768.0f, 32767.0f)),
          1.0f / std::max(gains.saturation, 1e-6f)};
}

/// `chroma` is min(saturation gain, high / range) * value / high, so that saturation ends at 1.
Pixel colour_pixel(const FixedGains& gains, Pixel pixel) {
  const int r = static_cast<int>(pixel & 255), g = static_cast<int>((pixel >> 8) & 255);
  const int b = static_cast<int>((pixel >> 16) & 255);
  const int high = std::max(r, std::max(g, b)), low = std::min(r, std::min(g, b));
  const int range = high - low, one = range << 4;
  const int value = std::min(((high << 8) * gains.value) >> 16, kFullValue);
  const float largest =
      std::max(static_cast<float>(high) * gains.inverse_saturation, static_cast<float>(range));
  const float share = static_cast<float>(value << 8) / std::max(largest, kLeastRange);
  const int chroma = std::min(static_cast<int>(share), 65535);

  const int difference = high == r ? g - b : (high == g ? b - r : r - g);
  const int sector = high == r ? (g < b ? 6 : 0) : (high == g ? 2 : 4);
  const int hue = sector * one + (difference << 4);
  const int moved = hue + ((((hue * gains.turn) >> 14) + 1) >> 1);
  const int turned = moved >= 6 * one ? moved - 6 * one : moved;
  const auto channel = [&](int t) {
    const int absent = (std::clamp(t, 0, one) << 4) * static_cast<std::int64_t>(chroma) >> 16;
    return static_cast<Pixel>((value + 32 - absent) >> 6);
  };
  const Pixel red = channel(2 * one - std::abs(turned - 3 * one));
  const Pixel green = channel(std::abs(turned - 2 * one) - one);
  const Pixel blue = channel(std::abs(turned - 4 * one) - one);
  return red | (green << 8) | (blue << 16);
}

}  // namespace

ColourGains draw_gains(Generator& generator, double h, double s, double v) {
  const double hue = generator.uniform(-1, 1), saturation = generator.uniform(-1, 1);
  const double value = generator.uniform(-1, 1);
  return {static_cast<float>(1 + hue * h), static_cast<float>(1 + saturation * s),
          static_cast<float>(1 + value * v)};
}

void apply_colour(const ColourGains& gains, Pixel* row, int count, Isa isa) {
  if (gains.identity()) return;
  const FixedGains fixed = to_fixed(gains);
  int done = 0;
#if BRIM_X86
  if (isa == Isa::Avx512) done = colour_avx512(fixed, row, count);
  if (isa != Isa::Portable) done += colour_avx2(fixed, row + done, count - done);
#endif
  (void)isa;
  for (; done < count; ++done) row[done] = colour_pixel(fixed, row[done]);
}

}  // namespace brim::detail
