#include "colour.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "colour_fixed.h"

namespace brim::detail {
namespace {

/// 2.14
std::uint16_t fixed_gain(float gain) {
  return static_cast<std::uint16_t>(std::clamp(gain * 16384.0f + 0.5f, 0.0f, 65535.0f));
}

FixedGains to_fixed(const ColourGains& gains) {
  return {fixed_gain(gains.value), fixed_gain(gains.saturation),
          fixed_gain(gains.value * gains.saturation),
          static_cast<std::int16_t>(std::clamp((gains.hue - 1) * 32768.0f, -32768.0f, 32767.0f)),
          1.0f / std::max(gains.saturation, 1e-6f)};
}

/// min(saturation gain, high / range) * value / high, so that saturation ends at 1.
int limited_chroma(const FixedGains& gains, int high, int range, int value) {
  const float largest =
      std::max(static_cast<float>(high) * gains.inverse_saturation, static_cast<float>(range));
  const float share = static_cast<float>(value << 8) / std::max(largest, kLeastRange);
  return std::min(static_cast<int>(share), 65535);
}

void colour_pixel(const FixedGains& gains, int r, int g, int b, std::uint8_t* out) {
  const int high = std::max(r, std::max(g, b)), low = std::min(r, std::min(g, b));
  const int range = high - low, one = range << 4;
  const int wanted = (high << 8) * gains.value >> 16;
  const bool limited = wanted > kFullValue || ((range << 8) * gains.saturation) >> 16 > high << 6;
  const int value = std::min(wanted, kFullValue);
  const int chroma = limited ? limited_chroma(gains, high, range, value) : gains.chroma;

  const int difference = high == r ? g - b : (high == g ? b - r : r - g);
  const int sector = high == r ? (g < b ? 6 : 0) : (high == g ? 2 : 4);
  const int hue = sector * one + (difference << 4);
  const int moved = hue + ((((hue * gains.turn) >> 14) + 1) >> 1);
  const int turned = moved >= 6 * one ? moved - 6 * one : moved;
  const auto channel = [&](int t) {
    const int absent = (std::clamp(t, 0, one) << 4) * static_cast<std::int64_t>(chroma) >> 16;
    return static_cast<std::uint8_t>((value + 32 - absent) >> 6);
  };
  out[0] = channel(2 * one - std::abs(turned - 3 * one));
  out[1] = channel(std::abs(turned - 2 * one) - one);
  out[2] = channel(std::abs(turned - 4 * one) - one);
}

}  // namespace

ColourGains draw_gains(Generator& generator, double h, double s, double v) {
  const double hue = generator.uniform(-1, 1), saturation = generator.uniform(-1, 1);
  const double value = generator.uniform(-1, 1);
  return {static_cast<float>(1 + hue * h), static_cast<float>(1 + saturation * s),
          static_cast<float>(1 + value * v)};
}

void write_coloured(const ColourGains& gains, const PixelRow& row, int begin, int end,
                    std::uint8_t* out, Isa isa) {
  const FixedGains fixed = to_fixed(gains);
  const bool same = gains.identity();
#if BRIM_X86
  if (isa != Isa::Portable && end - begin >= kColourGroup) {
    if (same) return join_avx2(row, begin, end - begin, out + std::ptrdiff_t{3} * begin);
    return colour_avx2(fixed, row, begin, end - begin, out + std::ptrdiff_t{3} * begin);
  }
#endif
  (void)isa;
  for (int x = begin; x < end; ++x) {
    const std::uint8_t r = row.plane(0)[x], g = row.plane(1)[x], b = row.plane(2)[x];
    std::uint8_t* const pixel = out + std::ptrdiff_t{3} * x;
    if (same) {
      pixel[0] = r, pixel[1] = g, pixel[2] = b;
    } else {
      colour_pixel(fixed, r, g, b, pixel);
    }
  }
}

std::uint8_t coloured_grey(const ColourGains& gains, std::uint8_t value) {
  if (gains.identity()) return value;
  std::uint8_t pixel[3];
  colour_pixel(to_fixed(gains), value, value, value, pixel);
  return pixel[0];
}

}  // namespace brim::detail
