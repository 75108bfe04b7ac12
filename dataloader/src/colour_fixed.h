#pragma once

#include <cstdint>

#include "colour.h"

namespace brim::detail {

/// Gains in fixed point. The arithmetic of one pixel, the same on every instruction set:
///
/// Each channel is value - chroma * t, with t the channel's trapezoid of hue: 0 where the channel
/// is full, 1 where it is absent. Hue runs over [0, 6). Hue and t are kept times the channels'
/// range (4 fraction bits), chroma per unit of range (14 bits), value with 6 bits. Where neither
/// value nor saturation meets its limit, chroma is the product of their gains; elsewhere it takes a
/// division, in IEEE floats.
struct FixedGains {
  std::uint16_t value = 0;       ///< 2.14
  std::uint16_t saturation = 0;  ///< 2.14
  std::uint16_t chroma = 0;      ///< product of both, 2.14
  std::int16_t turn = 0;         ///< hue gain less 1, 0.15
  float inverse_saturation = 1;
};

inline constexpr int kFullValue = 255 << 6;
inline constexpr float kLeastRange = 0.25f;  ///< keeps black from dividing by nothing

/// Pixels that a kernel works on at once.
inline constexpr int kColourGroup = 32;

#if BRIM_X86
/// Pixels [begin, begin + count) of `row`, at least kColourGroup of them, to 3 * count bytes at
/// `out`. Reads and writes nothing else.
void colour_avx2(const FixedGains& gains, const PixelRow& row, int begin, int count,
                 std::uint8_t* out);
/// The same without any change of colour.
void join_avx2(const PixelRow& row, int begin, int count, std::uint8_t* out);
#endif

}  // namespace brim::detail
