#include "warp_kernels.h"

#include <algorithm>

#if BRIM_X86
#include <immintrin.h>
#endif

namespace brim::detail {
namespace {

constexpr int kRound = 1 << 13;  // half of the weights' sum, 128 * 128

/// Coordinates are limited so that both taps lie inside: at the far edge the first tap is the last
/// but one pixel and its weight rounds to nothing.
void sample_portable(const ImageView& image, const Coordinates& at, int count, std::ptrdiff_t,
                     Pixel* out) {
  const int u_max = ((image.width - 1) << 16) - 1, v_max = ((image.height - 1) << 16) - 1;
  for (int i = 0; i < count; ++i) {
    const int u = std::clamp(at.u[i], 0, u_max), v = std::clamp(at.v[i], 0, v_max);
    const int fu = ((u & 0xFFFF) + 256) >> 9, fv = ((v & 0xFFFF) + 256) >> 9;
    const std::uint8_t* top = image.row(v >> 16) + 3 * (u >> 16);
    const std::uint8_t* bottom = top + image.stride;
    Pixel pixel = 0;
    for (int c = 0; c < 3; ++c) {
      const int left = top[c] * (128 - fv) + bottom[c] * fv;
      const int right = top[c + 3] * (128 - fv) + bottom[c + 3] * fv;
      pixel |= static_cast<Pixel>((left * (128 - fu) + right * fu + kRound) >> 14) << (8 * c);
    }
    out[i] = pixel;
  }
}

BRIM_ALWAYS_INLINE void affine_body(Coordinates& at, std::int32_t u, std::int32_t u_step,
                                    std::int32_t v, std::int32_t v_step, int count) {
  const int padded = (count + 7) & ~7;
  for (int i = 0; i < padded; ++i) {
    at.u[i] =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(u) +
                                  static_cast<std::uint32_t>(u_step) * static_cast<unsigned>(i));
    at.v[i] =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(v) +
                                  static_cast<std::uint32_t>(v_step) * static_cast<unsigned>(i));
  }
}

BRIM_ALWAYS_INLINE void projective_body(Coordinates& at, const Ray& ray, int count) {
  constexpr double kLift = 16.0;  // makes truncation round down
  for (int i = 0; i < count; ++i) {
    const double inverse_w = 65536.0 / (ray.w + i * ray.dw);
    at.u[i] = static_cast<std::int32_t>((ray.u + i * ray.du) * inverse_w + (kLift * 65536 + 0.5)) -
              (16 << 16);
    at.v[i] = static_cast<std::int32_t>((ray.v + i * ray.dv) * inverse_w + (kLift * 65536 + 0.5)) -
              (16 << 16);
  }
  for (int i = count; i < ((count + 7) & ~7); ++i) at.u[i] = at.v[i] = 0;
}

void affine_portable(Coordinates& at, std::int32_t u, std::int32_t u_step, std::int32_t v,
                     std::int32_t v_step, int count) {
  affine_body(at, u, u_step, v, v_step, count);
}

void projective_portable(Coordinates& at, const Ray& ray, int count) {
  projective_body(at, ray, count);
}

BRIM_ALWAYS_INLINE void blend_body(PixelRow& row, const PixelRow& other, int weight, int begin,
                                   int end) {
  const auto w0 = static_cast<std::uint16_t>(weight), w1 = static_cast<std::uint16_t>(256 - weight);
  for (int c = 0; c < 3; ++c) {
    std::uint8_t* __restrict to = row.plane(c);
    const std::uint8_t* __restrict from = other.plane(c);
    for (int x = begin; x < end; ++x) {
      to[x] = static_cast<std::uint8_t>(
          static_cast<std::uint16_t>(to[x] * w0 + from[x] * w1 + 128) >> 8);
    }
  }
}

void blend_portable(PixelRow& row, const PixelRow& other, int weight, int begin, int end) {
  blend_body(row, other, weight, begin, end);
}

BRIM_ALWAYS_INLINE void split_body(const Pixel* __restrict pixels, int count, PixelRow& row,
                                   int at) {
  std::uint8_t* __restrict red = row.plane(0) + at;
  std::uint8_t* __restrict green = row.plane(1) + at;
  std::uint8_t* __restrict blue = row.plane(2) + at;
  for (int i = 0; i < count; ++i) {
    red[i] = static_cast<std::uint8_t>(pixels[i]);
    green[i] = static_cast<std::uint8_t>(pixels[i] >> 8);
    blue[i] = static_cast<std::uint8_t>(pixels[i] >> 16);
  }
}

void split_portable(const Pixel* pixels, int count, PixelRow& row, int x) {
  split_body(pixels, count, row, x);
}

void pack_portable(const Pixel* row, int count, std::uint8_t* out) {
  for (int i = 0; i < count; ++i, out += 3) {
    out[0] = static_cast<std::uint8_t>(row[i]);
    out[1] = static_cast<std::uint8_t>(row[i] >> 8);
    out[2] = static_cast<std::uint8_t>(row[i] >> 16);
  }
}

#if BRIM_X86
/// Two pixels at once, one per 128-bit half. Each half holds 8 bytes of the top row from the left
/// tap on and 8 bytes of the bottom row that end with the right tap: so the two spare bytes are
/// read from the next row above and the previous row below, never outside the image.
BRIM_TARGET_AVX2 inline __m256i two_pixels(const std::uint8_t* base, std::ptrdiff_t stride,
                                           std::int32_t first, std::int32_t second,
                                           __m256i row_weights, __m256i column_weights) {
  const auto load = [](const std::uint8_t* top_left, std::ptrdiff_t down) {
    const __m128i top = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(top_left));
    return _mm_castps_si128(
        _mm_loadh_pi(_mm_castsi128_ps(top), reinterpret_cast<const __m64*>(top_left + down)));
  };
  const std::ptrdiff_t down = stride - 2;
  __m256i taps = _mm256_set_m128i(load(base + second, down), load(base + first, down));
  const __m256i order = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 10, 3, 13, 1, 11, 4, 14, 2, 12, 5, 15, -1, -1, -1, -1));
  taps = _mm256_shuffle_epi8(_mm256_xor_si256(taps, _mm256_set1_epi8(-128)), order);
  return _mm256_madd_epi16(_mm256_maddubs_epi16(row_weights, taps), column_weights);
}

BRIM_TARGET_AVX2 void sample_avx2(const ImageView& image, const Coordinates& at, int count,
                                  std::ptrdiff_t ahead, Pixel* out) {
  const __m256i zero = _mm256_setzero_si256(), fraction = _mm256_set1_epi32(0xFFFF);
  const __m256i u_max = _mm256_set1_epi32(((image.width - 1) << 16) - 1);
  const __m256i v_max = _mm256_set1_epi32(((image.height - 1) << 16) - 1);
  const __m256i stride = _mm256_set1_epi32(static_cast<int>(image.stride));
  const __m256i half = _mm256_set1_epi32(256), one = _mm256_set1_epi32(128);
  const __m256i round = _mm256_set1_epi32(kRound);
  alignas(32) std::int32_t offset[8];
  for (int i = 0; i < count; i += 8) {
    __m256i u = _mm256_load_si256(reinterpret_cast<const __m256i*>(at.u + i));
    __m256i v = _mm256_load_si256(reinterpret_cast<const __m256i*>(at.v + i));
    u = _mm256_min_epi32(_mm256_max_epi32(u, zero), u_max);
    v = _mm256_min_epi32(_mm256_max_epi32(v, zero), v_max);
    const __m256i column = _mm256_srli_epi32(u, 16);
    const __m256i bytes = _mm256_add_epi32(column, _mm256_add_epi32(column, column));
    _mm256_store_si256(
        reinterpret_cast<__m256i*>(offset),
        _mm256_add_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(v, 16), stride), bytes));
    const char* fetched = reinterpret_cast<const char*>(image.data) + ahead;
    _mm_prefetch(fetched + offset[0], _MM_HINT_T0);
    _mm_prefetch(fetched + offset[4], _MM_HINT_T0);
    const __m256i fu = _mm256_srli_epi32(_mm256_add_epi32(_mm256_and_si256(u, fraction), half), 9);
    const __m256i fv = _mm256_srli_epi32(_mm256_add_epi32(_mm256_and_si256(v, fraction), half), 9);
    const __m256i columns = _mm256_or_si256(_mm256_sub_epi32(one, fu), _mm256_slli_epi32(fu, 16));
    __m256i rows = _mm256_or_si256(_mm256_sub_epi32(one, fv), _mm256_slli_epi32(fv, 8));
    rows = _mm256_or_si256(rows, _mm256_slli_epi32(rows, 16));
#define BRIM_PAIR(k)                                                                    \
  _mm256_srai_epi32(                                                                    \
      _mm256_add_epi32(two_pixels(image.data, image.stride, offset[k], offset[(k) + 4], \
                                  _mm256_shuffle_epi32(rows, (k)*0x55),                 \
                                  _mm256_shuffle_epi32(columns, (k)*0x55)),             \
                       round),                                                          \
      14)
    const __m256i p01 = _mm256_packs_epi32(BRIM_PAIR(0), BRIM_PAIR(1));
    const __m256i p23 = _mm256_packs_epi32(BRIM_PAIR(2), BRIM_PAIR(3));
#undef BRIM_PAIR
    const __m256i pixels =
        _mm256_xor_si256(_mm256_packs_epi16(p01, p23), _mm256_set1_epi32(0x808080));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), pixels);
  }
}

BRIM_TARGET_AVX2 void affine_avx2(Coordinates& at, std::int32_t u, std::int32_t u_step,
                                  std::int32_t v, std::int32_t v_step, int count) {
  affine_body(at, u, u_step, v, v_step, count);
}

BRIM_TARGET_AVX2 void projective_avx2(Coordinates& at, const Ray& ray, int count) {
  projective_body(at, ray, count);
}

BRIM_TARGET_AVX2 void blend_avx2(PixelRow& row, const PixelRow& other, int weight, int begin,
                                 int end) {
  blend_body(row, other, weight, begin, end);
}

BRIM_TARGET_AVX2 void split_avx2(const Pixel* pixels, int count, PixelRow& row, int x) {
  split_body(pixels, count, row, x);
}

BRIM_TARGET_AVX2 void pack_avx2(const Pixel* row, int count, std::uint8_t* out) {
  const __m128i order = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  int i = 0;
  for (; i + 6 <= count; i += 4, out += 12) {  // each store writes 16 bytes, 4 of the next pixels
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(four, order));
  }
  pack_portable(row + i, count - i, out);
}
#endif

}  // namespace

const WarpKernels& warp_kernels(Isa isa) {
  static constexpr WarpKernels kPortable{affine_portable, projective_portable, sample_portable,
                                         split_portable,  blend_portable,      pack_portable};
#if BRIM_X86
  static constexpr WarpKernels kAvx2{affine_avx2, projective_avx2, sample_avx2,
                                     split_avx2,  blend_avx2,      pack_avx2};
  if (isa == Isa::Avx2) return kAvx2;
#endif
  (void)isa;
  return kPortable;
}

Isa best_isa() {
#if BRIM_X86
  static const Isa isa = __builtin_cpu_supports("avx2") ? Isa::Avx2 : Isa::Portable;
  return isa;
#else
  return Isa::Portable;
#endif
}

}  // namespace brim::detail
