#pragma once

#include "augment_simd.h"

#if BRIM_X86
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

/// Interleaved channels to one register per channel and back, 32 pixels at once.
namespace brim::detail {

/// Bytes for both halves of a register.
struct alignas(32) HalfTwice {
  std::uint8_t at[32];
  constexpr explicit HalfTwice(const std::uint8_t (&half)[16]) : at() {
    for (int i = 0; i < 32; ++i) at[i] = half[i % 16];
  }
};

BRIM_PART_AVX2 __m256i load(const HalfTwice& bytes) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes.at));
}

/// Chooses positions p of each half with p % 3 == 1, or 2.
inline constexpr HalfTwice kSecondOfThree({0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0,
                                           0});
inline constexpr HalfTwice kThirdOfThree({0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255,
                                          0});

/// Of positions p in each half: `x` where p % 3 == 0, `y` where it is 1, `z` where it is 2.
BRIM_PART_AVX2 __m256i by_thirds(__m256i x, __m256i y, __m256i z) {
  return _mm256_blendv_epi8(_mm256_blendv_epi8(x, y, load(kSecondOfThree)), z, load(kThirdOfThree));
}

/// Where the pixels of a half stand among three times 16 bytes of which by_thirds chose.
inline constexpr HalfTwice kRedFrom({0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13});
inline constexpr HalfTwice kGreenFrom({1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14});
inline constexpr HalfTwice kBlueFrom({2, 5, 8, 11, 14, 1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15});
/// The way back.
inline constexpr HalfTwice kRedTo({0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5});
inline constexpr HalfTwice kGreenTo({5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10});
inline constexpr HalfTwice kBlueTo({10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15});

/// 96 bytes of pixels to 32 bytes of each channel, `pitch` bytes apart.
BRIM_PART_AVX2 void split_channels(__m256i first, __m256i second, __m256i third, void* out,
                                   std::ptrdiff_t pitch) {
  // Each half takes 16 pixels: a, b and c are the first, second and third 16 of their 48 bytes.
  const __m256i a = _mm256_blend_epi32(first, second, 0xF0);
  const __m256i b = _mm256_permute2x128_si256(first, third, 0x21);
  const __m256i c = _mm256_blend_epi32(second, third, 0xF0);
  auto* const bytes = static_cast<std::uint8_t*>(out);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes),
                      _mm256_shuffle_epi8(by_thirds(a, c, b), load(kRedFrom)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + pitch),
                      _mm256_shuffle_epi8(by_thirds(b, a, c), load(kGreenFrom)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + 2 * pitch),
                      _mm256_shuffle_epi8(by_thirds(c, b, a), load(kBlueFrom)));
}

/// 32 bytes of each channel to 96 bytes of pixels at `out`.
BRIM_PART_AVX2 void join_channels(__m256i red, __m256i green, __m256i blue, std::uint8_t* out) {
  red = _mm256_shuffle_epi8(red, load(kRedTo));
  green = _mm256_shuffle_epi8(green, load(kGreenTo));
  blue = _mm256_shuffle_epi8(blue, load(kBlueTo));
  const __m256i a = by_thirds(red, green, blue);
  const __m256i b = by_thirds(green, blue, red);
  const __m256i c = by_thirds(blue, red, green);
  auto* const to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(a, b, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_blend_epi32(c, a, 0xF0));
  _mm256_storeu_si256(to + 2, _mm256_permute2x128_si256(b, c, 0x31));
}

}  // namespace brim::detail
#endif
