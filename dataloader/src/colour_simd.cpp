#include "colour_fixed.h"

#if BRIM_X86
#include <immintrin.h>

// Two registers of pixels become words of red, green and blue by packing within 128-bit parts;
// unpacking at the end restores the order. `colour_pixel` in colour.cpp says what is computed.
namespace brim::detail {
namespace {

/// New chroma per unit of range of 8 pixels.
BRIM_TARGET_AVX2 inline __m256i chroma8(__m256i value, __m256i high, __m256i range,
                                        __m256 inverse_saturation) {
  const __m256 largest = _mm256_max_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(high), inverse_saturation),
                                       _mm256_cvtepi32_ps(range));
  const __m256 share = _mm256_div_ps(_mm256_cvtepi32_ps(_mm256_slli_epi32(value, 8)),
                                     _mm256_max_ps(largest, _mm256_set1_ps(kLeastRange)));
  return _mm256_cvttps_epi32(share);
}

/// value - chroma * t, rounded to 8 bits, with t limited to [0, range].
BRIM_TARGET_AVX2 inline __m256i channel16(__m256i value, __m256i chroma, __m256i t, __m256i one) {
  t = _mm256_min_epi16(_mm256_max_epi16(t, _mm256_setzero_si256()), one);
  return _mm256_srli_epi16(
      _mm256_sub_epi16(value, _mm256_mulhi_epu16(_mm256_slli_epi16(t, 4), chroma)), 6);
}

/// New chroma per unit of range of 16 pixels.
BRIM_TARGET_AVX512 inline __m512i chroma16(__m512i value, __m512i high, __m512i range,
                                           __m512 inverse_saturation) {
  const __m512 largest = _mm512_max_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(high), inverse_saturation),
                                       _mm512_cvtepi32_ps(range));
  const __m512 share = _mm512_div_ps(_mm512_cvtepi32_ps(_mm512_slli_epi32(value, 8)),
                                     _mm512_max_ps(largest, _mm512_set1_ps(kLeastRange)));
  return _mm512_cvttps_epi32(share);
}

BRIM_TARGET_AVX512 inline __m512i channel32(__m512i value, __m512i chroma, __m512i t, __m512i one) {
  t = _mm512_min_epi16(_mm512_max_epi16(t, _mm512_setzero_si512()), one);
  return _mm512_srli_epi16(
      _mm512_sub_epi16(value, _mm512_mulhi_epu16(_mm512_slli_epi16(t, 4), chroma)), 6);
}

}  // namespace

BRIM_TARGET_AVX2 int colour_avx2(const FixedGains& gains, Pixel* row, int count) {
  const __m256i zero = _mm256_setzero_si256(), low_word = _mm256_set1_epi32(0xFFFF);
  const __m256i low_byte = _mm256_set1_epi16(255), full = _mm256_set1_epi16(kFullValue);
  const __m256i gain = _mm256_set1_epi16(static_cast<short>(gains.value));
  const __m256i turn = _mm256_set1_epi16(gains.turn), half = _mm256_set1_epi16(32);
  const __m256 inverse_saturation = _mm256_set1_ps(gains.inverse_saturation);
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    auto* const at = reinterpret_cast<__m256i*>(row + i);
    const __m256i p0 = _mm256_loadu_si256(at), p1 = _mm256_loadu_si256(at + 1);
    const __m256i rg =
        _mm256_packus_epi32(_mm256_and_si256(p0, low_word), _mm256_and_si256(p1, low_word));
    const __m256i b = _mm256_packus_epi32(_mm256_srli_epi32(p0, 16), _mm256_srli_epi32(p1, 16));
    const __m256i r = _mm256_and_si256(rg, low_byte), g = _mm256_srli_epi16(rg, 8);
    const __m256i high = _mm256_max_epi16(r, _mm256_max_epi16(g, b));
    const __m256i range = _mm256_sub_epi16(high, _mm256_min_epi16(r, _mm256_min_epi16(g, b)));
    __m256i value = _mm256_min_epi16(_mm256_mulhi_epu16(_mm256_slli_epi16(high, 8), gain), full);
    const __m256i chroma = _mm256_packus_epi32(
        chroma8(_mm256_unpacklo_epi16(value, zero), _mm256_unpacklo_epi16(high, zero),
                _mm256_unpacklo_epi16(range, zero), inverse_saturation),
        chroma8(_mm256_unpackhi_epi16(value, zero), _mm256_unpackhi_epi16(high, zero),
                _mm256_unpackhi_epi16(range, zero), inverse_saturation));
    value = _mm256_add_epi16(value, half);

    const __m256i one = _mm256_slli_epi16(range, 4), two = _mm256_add_epi16(one, one);
    const __m256i four = _mm256_add_epi16(two, two), six = _mm256_add_epi16(two, four);
    const __m256i is_r = _mm256_cmpeq_epi16(high, r), is_g = _mm256_cmpeq_epi16(high, g);
    const __m256i difference =
        _mm256_blendv_epi8(_mm256_blendv_epi8(_mm256_sub_epi16(r, g), _mm256_sub_epi16(b, r), is_g),
                           _mm256_sub_epi16(g, b), is_r);
    const __m256i sector = _mm256_blendv_epi8(
        _mm256_blendv_epi8(four, two, is_g), _mm256_and_si256(six, _mm256_cmpgt_epi16(b, g)), is_r);
    const __m256i hue = _mm256_add_epi16(sector, _mm256_slli_epi16(difference, 4));
    const __m256i moved = _mm256_add_epi16(hue, _mm256_mulhrs_epi16(hue, turn));
    const __m256i turned = _mm256_min_epu16(moved, _mm256_sub_epi16(moved, six));
    const __m256i from_cyan =
        _mm256_abs_epi16(_mm256_sub_epi16(turned, _mm256_add_epi16(one, two)));
    const __m256i from_green = _mm256_abs_epi16(_mm256_sub_epi16(turned, two));
    const __m256i from_blue = _mm256_abs_epi16(_mm256_sub_epi16(turned, four));
    const __m256i red = channel16(value, chroma, _mm256_sub_epi16(two, from_cyan), one);
    const __m256i green = channel16(value, chroma, _mm256_sub_epi16(from_green, one), one);
    const __m256i blue = channel16(value, chroma, _mm256_sub_epi16(from_blue, one), one);
    const __m256i red_green = _mm256_or_si256(red, _mm256_slli_epi16(green, 8));
    _mm256_storeu_si256(at, _mm256_unpacklo_epi16(red_green, blue));
    _mm256_storeu_si256(at + 1, _mm256_unpackhi_epi16(red_green, blue));
  }
  return i;
}

BRIM_TARGET_AVX512 int colour_avx512(const FixedGains& gains, Pixel* row, int count) {
  const __m512i zero = _mm512_setzero_si512(), low_word = _mm512_set1_epi32(0xFFFF);
  const __m512i low_byte = _mm512_set1_epi16(255), full = _mm512_set1_epi16(kFullValue);
  const __m512i gain = _mm512_set1_epi16(static_cast<short>(gains.value));
  const __m512i turn = _mm512_set1_epi16(gains.turn), half = _mm512_set1_epi16(32);
  const __m512 inverse_saturation = _mm512_set1_ps(gains.inverse_saturation);
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m512i p0 = _mm512_loadu_si512(row + i), p1 = _mm512_loadu_si512(row + i + 16);
    const __m512i rg =
        _mm512_packus_epi32(_mm512_and_si512(p0, low_word), _mm512_and_si512(p1, low_word));
    const __m512i b = _mm512_packus_epi32(_mm512_srli_epi32(p0, 16), _mm512_srli_epi32(p1, 16));
    const __m512i r = _mm512_and_si512(rg, low_byte), g = _mm512_srli_epi16(rg, 8);
    const __m512i high = _mm512_max_epi16(r, _mm512_max_epi16(g, b));
    const __m512i range = _mm512_sub_epi16(high, _mm512_min_epi16(r, _mm512_min_epi16(g, b)));
    __m512i value = _mm512_min_epi16(_mm512_mulhi_epu16(_mm512_slli_epi16(high, 8), gain), full);
    const __m512i chroma = _mm512_packus_epi32(
        chroma16(_mm512_unpacklo_epi16(value, zero), _mm512_unpacklo_epi16(high, zero),
                 _mm512_unpacklo_epi16(range, zero), inverse_saturation),
        chroma16(_mm512_unpackhi_epi16(value, zero), _mm512_unpackhi_epi16(high, zero),
                 _mm512_unpackhi_epi16(range, zero), inverse_saturation));
    value = _mm512_add_epi16(value, half);

    const __m512i one = _mm512_slli_epi16(range, 4), two = _mm512_add_epi16(one, one);
    const __m512i four = _mm512_add_epi16(two, two), six = _mm512_add_epi16(two, four);
    const __mmask32 is_r = _mm512_cmpeq_epi16_mask(high, r);
    const __mmask32 is_g = _mm512_cmpeq_epi16_mask(high, g);
    const __m512i difference = _mm512_mask_sub_epi16(
        _mm512_mask_sub_epi16(_mm512_sub_epi16(r, g), is_g, b, r), is_r, g, b);
    const __m512i sector =
        _mm512_mask_mov_epi16(_mm512_mask_mov_epi16(four, is_g, two), is_r,
                              _mm512_maskz_mov_epi16(_mm512_cmpgt_epi16_mask(b, g), six));
    const __m512i hue = _mm512_add_epi16(sector, _mm512_slli_epi16(difference, 4));
    const __m512i moved = _mm512_add_epi16(hue, _mm512_mulhrs_epi16(hue, turn));
    const __m512i turned = _mm512_min_epu16(moved, _mm512_sub_epi16(moved, six));
    const __m512i from_cyan =
        _mm512_abs_epi16(_mm512_sub_epi16(turned, _mm512_add_epi16(one, two)));
    const __m512i from_green = _mm512_abs_epi16(_mm512_sub_epi16(turned, two));
    const __m512i from_blue = _mm512_abs_epi16(_mm512_sub_epi16(turned, four));
    const __m512i red = channel32(value, chroma, _mm512_sub_epi16(two, from_cyan), one);
    const __m512i green = channel32(value, chroma, _mm512_sub_epi16(from_green, one), one);
    const __m512i blue = channel32(value, chroma, _mm512_sub_epi16(from_blue, one), one);
    const __m512i red_green = _mm512_or_si512(red, _mm512_slli_epi16(green, 8));
    _mm512_storeu_si512(row + i, _mm512_unpacklo_epi16(red_green, blue));
    _mm512_storeu_si512(row + i + 16, _mm512_unpackhi_epi16(red_green, blue));
  }
  return i;
}

}  // namespace brim::detail
#endif
