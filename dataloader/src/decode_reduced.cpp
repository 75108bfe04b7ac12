#include "decode_reduced.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "augment_simd.h"
#if BRIM_X86
#include <emmintrin.h>
#endif

// With 8-point coefficients F, all sums are those of the N-point inverse DCT times N/8:
//   N = 2:  8 f(x, y) = F00 +- F01 +- F10 +- F11
//   N = 4:  8 f(x, y) = sum over u, v < 4 of F(u, v) c(u, x) c(v, y), where c(0, x) = 1 and
//           c(u, x) = sqrt(2) cos((2 x + 1) u pi / 8)
// (Rao and Yip, Discrete Cosine Transform, 1990, DCT-II; ITU-T T.81, A.3.3.) Coefficients are
// taken modulo 2^16 and the first pass saturates: damaged files may hold any numbers.
namespace brim::detail {
namespace {

constexpr int kFraction = 13;
constexpr std::int32_t kCos1 = 10703;  ///< sqrt(2) cos(pi / 8)
constexpr std::int32_t kCos3 = 4433;   ///< sqrt(2) cos(3 pi / 8)
constexpr int kKept = 2;               ///< bits of fraction between the two passes

inline std::int32_t rounded(std::int32_t value, int shift) {
  return (value + (1 << (shift - 1))) >> shift;
}

inline JSAMPLE pixel(std::int32_t value) {
  return static_cast<JSAMPLE>(std::clamp(value + CENTERJSAMPLE, 0, MAXJSAMPLE));
}

inline std::int16_t dequantised(const jpeg_component_info& component, const JCOEF* block, int at) {
  return static_cast<std::int16_t>(block[at] * component.quant_table->quantval[at]);
}

/// Nothing but the mean among the frequencies that count?
inline bool is_flat(const JCOEF* block) {
  std::uint64_t rows[4];
  for (int v = 0; v < 4; ++v) std::memcpy(&rows[v], block + v * DCTSIZE, sizeof rows[v]);
  JCOEF first[4] = {block[0], 0, 0, 0};
  std::uint64_t mean;
  std::memcpy(&mean, first, sizeof mean);
  return ((rows[0] ^ mean) | rows[1] | rows[2] | rows[3]) == 0;
}

#if BRIM_X86

/// Four rows of four to four columns.
inline void transpose(__m128i& a, __m128i& b, __m128i& c, __m128i& d) {
  const __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
  const __m128i ab_high = _mm_unpackhi_epi32(a, b), cd_high = _mm_unpackhi_epi32(c, d);
  a = _mm_unpacklo_epi64(ab, cd);
  b = _mm_unpackhi_epi64(ab, cd);
  c = _mm_unpacklo_epi64(ab_high, cd_high);
  d = _mm_unpackhi_epi64(ab_high, cd_high);
}

/// One pass over four lanes of 16 bits: `even` holds pairs (F0, F2), `odd` pairs (F1, F3).
template <int kShift>
inline void pass(__m128i even, __m128i odd, __m128i (&to)[4]) {
  const auto pairs = [](std::int32_t low, std::int32_t high) {
    return _mm_set1_epi32(high * 65536 + low);
  };
  constexpr std::int32_t kOne = 1 << kFraction;
  const __m128i half = _mm_set1_epi32(1 << (kShift - 1));
  const __m128i outer = _mm_add_epi32(_mm_madd_epi16(even, pairs(kOne, kOne)), half);
  const __m128i inner = _mm_add_epi32(_mm_madd_epi16(even, pairs(kOne, -kOne)), half);
  const __m128i outer_odd = _mm_madd_epi16(odd, pairs(kCos1, kCos3));
  const __m128i inner_odd = _mm_madd_epi16(odd, pairs(kCos3, -kCos1));
  to[0] = _mm_srai_epi32(_mm_add_epi32(outer, outer_odd), kShift);
  to[1] = _mm_srai_epi32(_mm_add_epi32(inner, inner_odd), kShift);
  to[2] = _mm_srai_epi32(_mm_sub_epi32(inner, inner_odd), kShift);
  to[3] = _mm_srai_epi32(_mm_sub_epi32(outer, outer_odd), kShift);
}

inline void transform_4x4(const jpeg_component_info& component, const JCOEF* block, JSAMPARRAY rows,
                          JDIMENSION column) {
  __m128i row[4];
  for (int v = 0; v < 4; ++v) {
    const auto load = [v](const void* from) {
      return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from) + v);
    };
    row[v] = _mm_mullo_epi16(load(block), load(component.quant_table->quantval));
  }
  __m128i sums[4];  // sums[y]: lane u
  pass<kFraction - kKept>(_mm_unpacklo_epi16(row[0], row[2]), _mm_unpacklo_epi16(row[1], row[3]),
                          sums);
  transpose(sums[0], sums[1], sums[2], sums[3]);  // sums[u]: lane y
  const __m128i low = _mm_packs_epi32(sums[0], sums[2]), high = _mm_packs_epi32(sums[1], sums[3]);
  const auto interleaved = [](__m128i packed) {
    return _mm_unpacklo_epi16(packed, _mm_unpackhi_epi64(packed, packed));
  };
  pass<kFraction + kKept + 3>(interleaved(low), interleaved(high), sums);  // sums[x]: lane y
  transpose(sums[0], sums[1], sums[2], sums[3]);                           // sums[y]: lane x
  const __m128i centre = _mm_set1_epi16(CENTERJSAMPLE);
  const __m128i upper = _mm_adds_epi16(_mm_packs_epi32(sums[0], sums[1]), centre);
  const __m128i lower = _mm_adds_epi16(_mm_packs_epi32(sums[2], sums[3]), centre);
  __m128i bytes = _mm_packus_epi16(upper, lower);
  for (int y = 0; y < 4; ++y) {
    const int four = _mm_cvtsi128_si32(bytes);
    std::memcpy(rows[y] + column, &four, sizeof four);
    bytes = _mm_srli_si128(bytes, 4);
  }
}

#else

/// One pass over four lanes: lane i of `to[x]` is sample x of what lane i of `from[u]` holds.
template <int kShift>
inline void pass(const std::int16_t (&from)[4][4], std::int32_t (&to)[4][4]) {
  for (int i = 0; i < 4; ++i) {
    const std::int32_t outer = (from[0][i] + from[2][i]) * (1 << kFraction);
    const std::int32_t inner = (from[0][i] - from[2][i]) * (1 << kFraction);
    const std::int32_t outer_odd = from[1][i] * kCos1 + from[3][i] * kCos3;
    const std::int32_t inner_odd = from[1][i] * kCos3 - from[3][i] * kCos1;
    to[0][i] = rounded(outer + outer_odd, kShift);
    to[1][i] = rounded(inner + inner_odd, kShift);
    to[2][i] = rounded(inner - inner_odd, kShift);
    to[3][i] = rounded(outer - outer_odd, kShift);
  }
}

inline void transform_4x4(const jpeg_component_info& component, const JCOEF* block, JSAMPARRAY rows,
                          JDIMENSION column) {
  std::int16_t in[4][4];
  for (int v = 0; v < 4; ++v) {
    for (int u = 0; u < 4; ++u) in[v][u] = dequantised(component, block, v * DCTSIZE + u);
  }
  std::int32_t sums[4][4];  // [y][u]
  pass<kFraction - kKept>(in, sums);
  for (int y = 0; y < 4; ++y) {
    for (int u = 0; u < 4; ++u) {
      in[u][y] = static_cast<std::int16_t>(std::clamp(sums[y][u], -32768, 32767));
    }
  }
  pass<kFraction + kKept + 3>(in, sums);  // [x][y]
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 4; ++x) rows[y][column + static_cast<unsigned>(x)] = pixel(sums[x][y]);
  }
}

#endif

}  // namespace

void inverse_dct_2x2(j_decompress_ptr, jpeg_component_info* component, JCOEFPTR block,
                     JSAMPARRAY rows, JDIMENSION column) {
  const std::int32_t mean = dequantised(*component, block, 0) + 4;
  const std::int32_t across = dequantised(*component, block, 1);
  const std::int32_t down = dequantised(*component, block, DCTSIZE);
  const std::int32_t both = dequantised(*component, block, DCTSIZE + 1);
  JSAMPLE* const top = rows[0] + column;
  JSAMPLE* const bottom = rows[1] + column;
  top[0] = pixel((mean + across + down + both) >> 3);
  top[1] = pixel((mean - across + down - both) >> 3);
  bottom[0] = pixel((mean + across - down - both) >> 3);
  bottom[1] = pixel((mean - across - down + both) >> 3);
}

void inverse_dct_4x4(j_decompress_ptr, jpeg_component_info* component, JCOEFPTR block,
                     JSAMPARRAY rows, JDIMENSION column) {
  if (!is_flat(block)) {
    transform_4x4(*component, block, rows, column);
    return;
  }
  const JSAMPLE value = pixel(rounded(dequantised(*component, block, 0), 3));
  for (int y = 0; y < 4; ++y) std::memset(rows[y] + column, value, 4);
}

bool replace_reduced_transforms(jpeg_decompress_struct& cinfo) {
#if LIBJPEG_TURBO_VERSION_NUMBER >= 2000000 && LIBJPEG_TURBO_VERSION_NUMBER < 4000000
  using Transform =
      void (*)(j_decompress_ptr, jpeg_component_info*, JCOEFPTR, JSAMPARRAY, JDIMENSION);
  // Head of libjpeg's jpeg_inverse_dct (jpegint.h), the same in all of these versions.
  struct InverseDct {
    void (*start_pass)(j_decompress_ptr);
    Transform transforms[MAX_COMPONENTS];
  };
  auto& inverse = *reinterpret_cast<InverseDct*>(cinfo.idct);
  for (int i = 0; i < cinfo.num_components; ++i) {
    // A component that no scan held has no table; libjpeg makes it grey.
    if (cinfo.comp_info[i].quant_table == nullptr) continue;
    const int size = cinfo.comp_info[i].DCT_scaled_size;
    if (size == 2) inverse.transforms[i] = inverse_dct_2x2;
    if (size == 4) inverse.transforms[i] = inverse_dct_4x4;
  }
  return true;
#else
  static_cast<void>(cinfo);
  return false;
#endif
}

}  // namespace brim::detail
