#include <algorithm>

#include "colour_fixed.h"
#include "plane_channels.h"

#if BRIM_X86

// `colour_pixel` in colour.cpp says what is computed. Unpacking bytes to words within 128-bit parts
// and packing them again restores their order.
namespace brim::detail {
namespace {

/// 16 pixels, a word per channel.
struct Words {
  __m256i red, green, blue;
};

/// What decides a pixel's new value and chroma; `limited` where one of them meets its limit.
struct Extent {
  __m256i high, range, value, limited;
};

struct Constants {
  __m256i value, saturation, chroma, turn;
  __m256 inverse_saturation;
};

/// New chroma per unit of range of 8 pixels.
BRIM_PART_AVX2 __m256i chroma8(__m256i value, __m256i high, __m256i range,
                               __m256 inverse_saturation) {
  const __m256 largest = _mm256_max_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(high), inverse_saturation),
                                       _mm256_cvtepi32_ps(range));
  const __m256 share = _mm256_div_ps(_mm256_cvtepi32_ps(_mm256_slli_epi32(value, 8)),
                                     _mm256_max_ps(largest, _mm256_set1_ps(kLeastRange)));
  return _mm256_cvttps_epi32(share);
}

BRIM_PART_AVX2 __m256i chroma16(__m256i value, __m256i high, __m256i range,
                                __m256 inverse_saturation) {
  const __m256i zero = _mm256_setzero_si256();
  return _mm256_packus_epi32(
      chroma8(_mm256_unpacklo_epi16(value, zero), _mm256_unpacklo_epi16(high, zero),
              _mm256_unpacklo_epi16(range, zero), inverse_saturation),
      chroma8(_mm256_unpackhi_epi16(value, zero), _mm256_unpackhi_epi16(high, zero),
              _mm256_unpackhi_epi16(range, zero), inverse_saturation));
}

/// value - chroma * t, rounded to 8 bits, with t limited to [0, range].
BRIM_PART_AVX2 __m256i channel16(__m256i value, __m256i chroma, __m256i t, __m256i one) {
  t = _mm256_min_epi16(_mm256_max_epi16(t, _mm256_setzero_si256()), one);
  return _mm256_srli_epi16(
      _mm256_sub_epi16(value, _mm256_mulhi_epu16(_mm256_slli_epi16(t, 4), chroma)), 6);
}

/// New hue times the range; `two`, `four` and `six` are that often `one` turn's sixth.
BRIM_PART_AVX2 __m256i turned_hue(const Words& p, __m256i high, __m256i two, __m256i four,
                                  __m256i turn) {
  const __m256i six = _mm256_add_epi16(two, four);
  const __m256i is_r = _mm256_cmpeq_epi16(high, p.red), is_g = _mm256_cmpeq_epi16(high, p.green);
  const __m256i difference = _mm256_blendv_epi8(
      _mm256_blendv_epi8(_mm256_sub_epi16(p.red, p.green), _mm256_sub_epi16(p.blue, p.red), is_g),
      _mm256_sub_epi16(p.green, p.blue), is_r);
  const __m256i sector =
      _mm256_blendv_epi8(_mm256_blendv_epi8(four, two, is_g),
                         _mm256_and_si256(six, _mm256_cmpgt_epi16(p.blue, p.green)), is_r);
  const __m256i hue = _mm256_add_epi16(sector, _mm256_slli_epi16(difference, 4));
  const __m256i moved = _mm256_add_epi16(hue, _mm256_mulhrs_epi16(hue, turn));
  return _mm256_min_epu16(moved, _mm256_sub_epi16(moved, six));
}

BRIM_PART_AVX2 Extent extent16(const Words& p, const Constants& by) {
  const __m256i high = _mm256_max_epi16(p.red, _mm256_max_epi16(p.green, p.blue));
  const __m256i low = _mm256_min_epi16(p.red, _mm256_min_epi16(p.green, p.blue));
  const __m256i range = _mm256_sub_epi16(high, low), full = _mm256_set1_epi16(kFullValue);
  const __m256i wanted = _mm256_mulhi_epu16(_mm256_slli_epi16(high, 8), by.value);
  const __m256i grey_less = _mm256_mulhi_epu16(_mm256_slli_epi16(range, 8), by.saturation);
  return {high, range, _mm256_min_epi16(wanted, full),
          _mm256_or_si256(_mm256_cmpgt_epi16(wanted, full),
                          _mm256_cmpgt_epi16(grey_less, _mm256_slli_epi16(high, 6)))};
}

BRIM_PART_AVX2 Words colour16(const Words& p, const Extent& e, __m256i chroma,
                              const Constants& by) {
  const __m256i value = _mm256_add_epi16(e.value, _mm256_set1_epi16(32));
  const __m256i one = _mm256_slli_epi16(e.range, 4), two = _mm256_add_epi16(one, one);
  const __m256i four = _mm256_add_epi16(two, two);
  const __m256i hue = turned_hue(p, e.high, two, four, by.turn);
  const __m256i from_cyan = _mm256_abs_epi16(_mm256_sub_epi16(hue, _mm256_add_epi16(one, two)));
  const __m256i from_green = _mm256_abs_epi16(_mm256_sub_epi16(hue, two));
  const __m256i from_blue = _mm256_abs_epi16(_mm256_sub_epi16(hue, four));
  return {channel16(value, chroma, _mm256_sub_epi16(two, from_cyan), one),
          channel16(value, chroma, _mm256_sub_epi16(from_green, one), one),
          channel16(value, chroma, _mm256_sub_epi16(from_blue, one), one)};
}

BRIM_PART_AVX2 __m256i load(const std::uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

}  // namespace

BRIM_TARGET_AVX2 void colour_avx2(const FixedGains& gains, const PixelRow& row, int begin,
                                  int count, std::uint8_t* out) {
  const __m256i zero = _mm256_setzero_si256();
  const Constants by{_mm256_set1_epi16(static_cast<short>(gains.value)),
                     _mm256_set1_epi16(static_cast<short>(gains.saturation)),
                     _mm256_set1_epi16(static_cast<short>(gains.chroma)),
                     _mm256_set1_epi16(gains.turn), _mm256_set1_ps(gains.inverse_saturation)};
  const std::uint8_t* const plane = row.plane(0) + begin;
  for (int x = 0; x < count; x += kColourGroup) {
    const int i = std::min(x, count - kColourGroup);  // the last overlaps
    const __m256i r = load(plane + i), g = load(plane + row.pitch() + i);
    const __m256i b = load(plane + 2 * row.pitch() + i);
    const Words p0{_mm256_unpacklo_epi8(r, zero), _mm256_unpacklo_epi8(g, zero),
                   _mm256_unpacklo_epi8(b, zero)};
    const Words p1{_mm256_unpackhi_epi8(r, zero), _mm256_unpackhi_epi8(g, zero),
                   _mm256_unpackhi_epi8(b, zero)};
    const Extent e0 = extent16(p0, by), e1 = extent16(p1, by);
    __m256i chroma0 = by.chroma, chroma1 = by.chroma;
    const __m256i limited = _mm256_or_si256(e0.limited, e1.limited);
    if (!_mm256_testz_si256(limited, limited)) {
      chroma0 = _mm256_blendv_epi8(
          chroma0, chroma16(e0.value, e0.high, e0.range, by.inverse_saturation), e0.limited);
      chroma1 = _mm256_blendv_epi8(
          chroma1, chroma16(e1.value, e1.high, e1.range, by.inverse_saturation), e1.limited);
    }
    const Words low = colour16(p0, e0, chroma0, by), high = colour16(p1, e1, chroma1, by);
    join_channels(_mm256_packus_epi16(low.red, high.red),
                  _mm256_packus_epi16(low.green, high.green),
                  _mm256_packus_epi16(low.blue, high.blue), out + std::ptrdiff_t{3} * i);
  }
}

BRIM_TARGET_AVX2 void join_avx2(const PixelRow& row, int begin, int count, std::uint8_t* out) {
  const std::uint8_t* const plane = row.plane(0) + begin;
  for (int x = 0; x < count; x += kColourGroup) {
    const int i = std::min(x, count - kColourGroup);
    join_channels(load(plane + i), load(plane + row.pitch() + i), load(plane + 2 * row.pitch() + i),
                  out + std::ptrdiff_t{3} * i);
  }
}

}  // namespace brim::detail
#endif
