#include "colour.h"

#include <algorithm>
#include <cmath>

namespace brim::detail {
namespace {

BRIM_ALWAYS_INLINE float limit01(float x) {
  return std::min(std::max(x, 0.0f), 1.0f);
}

/// Straight-line code, one pixel per lane. `hue` runs over [0, 6). Each channel is
/// value - chroma * t, with t the channel's trapezoid of hue: 0 where it is full, 1 where it is
/// absent.
BRIM_ALWAYS_INLINE void colour_body(const ColourGains& gains, Pixel* __restrict row, int count) {
  const float hue_gain = gains.hue, saturation_gain = gains.saturation, value_gain = gains.value;
  for (int i = 0; i < count; ++i) {
    const Pixel pixel = row[i];
    const int r = static_cast<int>(pixel & 255), g = static_cast<int>((pixel >> 8) & 255);
    const int b = static_cast<int>((pixel >> 16) & 255);
    const int high = std::max(r, std::max(g, b)), low = std::min(r, std::min(g, b));
    const int range = high - low;
    const int difference = high == r ? g - b : (high == g ? b - r : r - g);
    const int sector = high == r ? (g < b ? 6 : 0) : (high == g ? 2 : 4);
    const float hue = static_cast<float>(sector) +
                      static_cast<float>(difference) / static_cast<float>(std::max(range, 1));
    float turned = hue * hue_gain;
    turned = turned >= 6.0f ? turned - 6.0f : turned;
    const float value = std::min(static_cast<float>(high) * value_gain, 255.0f);
    const float chroma =
        value * (std::min(static_cast<float>(range) * saturation_gain, static_cast<float>(high)) /
                 static_cast<float>(std::max(high, 1)));
    const float red = value - chroma * limit01(2.0f - std::fabs(turned - 3.0f));
    const float green = value - chroma * limit01(std::fabs(turned - 2.0f) - 1.0f);
    const float blue = value - chroma * limit01(std::fabs(turned - 4.0f) - 1.0f);
    row[i] = static_cast<Pixel>(static_cast<int>(red + 0.5f)) |
             (static_cast<Pixel>(static_cast<int>(green + 0.5f)) << 8) |
             (static_cast<Pixel>(static_cast<int>(blue + 0.5f)) << 16);
  }
}

void colour_portable(const ColourGains& gains, Pixel* row, int count) {
  colour_body(gains, row, count);
}
#if BRIM_X86
BRIM_TARGET_AVX2 void colour_avx2(const ColourGains& gains, Pixel* row, int count) {
  colour_body(gains, row, count);
}
BRIM_TARGET_AVX512 void colour_avx512(const ColourGains& gains, Pixel* row, int count) {
  colour_body(gains, row, count);
}
#endif

}  // namespace

ColourGains draw_gains(Generator& generator, double h, double s, double v) {
  const double hue = generator.uniform(-1, 1), saturation = generator.uniform(-1, 1);
  const double value = generator.uniform(-1, 1);
  return {static_cast<float>(1 + hue * h), static_cast<float>(1 + saturation * s),
          static_cast<float>(1 + value * v)};
}

void apply_colour(const ColourGains& gains, Pixel* row, int count, Isa isa) {
  if (gains.identity()) return;
#if BRIM_X86
  if (isa == Isa::Avx512) return colour_avx512(gains, row, count);
  if (isa == Isa::Avx2) return colour_avx2(gains, row, count);
#endif
  (void)isa;
  colour_portable(gains, row, count);
}

}  // namespace brim::detail
