#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "brim/dataloader/letterbox.h"
#include "warp_kernels.h"

#if BRIM_X86
#include <immintrin.h>
#endif

namespace brim {
namespace {

using namespace detail;

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

/// A source row at the result's columns: R, G, B and nothing, 128 times the 8-bit value (the 11
/// bits of weight less the 4 that OpenCV drops before it blends rows).
void resize_row_portable(const ImageView& from, int y, const std::vector<Taps>& taps,
                         std::int16_t* out) {
  for (const Taps& tap : taps) {
    const std::uint8_t* left = from.row(y) + tap.first * 3;
    const std::uint8_t* right = tap.first + 1 < from.width ? left + 3 : left;
    for (int c = 0; c < 3; ++c) {
      out[c] = static_cast<std::int16_t>((left[c] * tap.weight0 + right[c] * tap.weight1) >> 4);
    }
    out[3] = 0;
    out += 4;
  }
}

#if BRIM_X86
/// The same, two columns at once. Reads up to 5 bytes past a row's end, so not for the last row.
BRIM_TARGET_AVX2 void resize_row_avx2(const ImageView& from, int y, const std::vector<Taps>& taps,
                                      std::int16_t* out) {
  const __m128i order = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  const __m256i both = _mm256_broadcastsi128_si256(order);
  const std::uint8_t* row = from.row(y);
  const auto load = [row](const Taps& tap) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + tap.first * 3));
  };
  const auto weights = [](const Taps& tap) {
    return _mm_set1_epi32(static_cast<std::uint16_t>(tap.weight0) | (tap.weight1 << 16));
  };
  std::size_t i = 0;
  for (; i + 2 <= taps.size(); i += 2) {
    const __m256i pixels =
        _mm256_shuffle_epi8(_mm256_set_m128i(load(taps[i + 1]), load(taps[i])), both);
    const __m256i shares = _mm256_set_m128i(weights(taps[i + 1]), weights(taps[i]));
    const __m256i sums = _mm256_srai_epi32(_mm256_madd_epi16(pixels, shares), 4);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(sums, sums), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * i), _mm256_castsi256_si128(packed));
  }
  for (; i < taps.size(); ++i) {
    const __m128i sums =
        _mm_srai_epi32(_mm_madd_epi16(_mm_shuffle_epi8(load(taps[i]), order), weights(taps[i])), 4);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 4 * i), _mm_packs_epi32(sums, sums));
  }
}
#endif

void resize_row(Isa isa, const ImageView& from, int y, const std::vector<Taps>& taps,
                std::int16_t* out) {
#if BRIM_X86
  if (isa != Isa::Portable && y + 1 < from.height && from.width >= 2) {
    return resize_row_avx2(from, y, taps, out);
  }
#endif
  (void)isa;
  resize_row_portable(from, y, taps, out);
}

/// The two rows blended with OpenCV's 8-bit formula: each product cut to 16 bits before the sum.
BRIM_ALWAYS_INLINE void blend_rows_body(const std::int16_t* __restrict row0,
                                        const std::int16_t* __restrict row1, Taps weights,
                                        std::uint8_t* __restrict out, int count) {
  const std::int16_t w0 = weights.weight0, w1 = weights.weight1;
  for (int i = 0; i < count; ++i) {
    const auto a = static_cast<std::int16_t>((w0 * row0[i]) >> 16);
    const auto b = static_cast<std::int16_t>((w1 * row1[i]) >> 16);
    out[i] = static_cast<std::uint8_t>(static_cast<std::int16_t>(a + b + 2) >> 2);
  }
}

void blend_rows_portable(const std::int16_t* row0, const std::int16_t* row1, Taps weights,
                         std::uint8_t* out, int count) {
  blend_rows_body(row0, row1, weights, out, count);
}
#if BRIM_X86
BRIM_TARGET_AVX2 void blend_rows_avx2(const std::int16_t* row0, const std::int16_t* row1,
                                      Taps weights, std::uint8_t* out, int count) {
  blend_rows_body(row0, row1, weights, out, count);
}
#endif

void blend_rows(Isa isa, const std::int16_t* row0, const std::int16_t* row1, Taps weights,
                std::uint8_t* out, int count) {
#if BRIM_X86
  if (isa != Isa::Portable) return blend_rows_avx2(row0, row1, weights, out, count);
#endif
  (void)isa;
  blend_rows_portable(row0, row1, weights, out, count);
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
  std::vector<std::int16_t> held[2];
  std::vector<Pixel> blended;
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
  const Isa isa = best_isa();
  const int count = to.width * 4;
  for (auto& row : s.held) row.resize(static_cast<std::size_t>(count));
  s.blended.resize(static_cast<std::size_t>(to.width));
  int held[2] = {-1, -1};  // which source row each buffer holds; row r always lives in buffer r % 2
  for (int y = 0; y < to.height; ++y) {
    const Taps taps = s.rows[static_cast<std::size_t>(y)];
    const int wanted[2] = {std::clamp(taps.first, 0, from.height - 1),
                           std::clamp(taps.first + 1, 0, from.height - 1)};
    for (const int row : wanted) {
      if (held[row % 2] == row) continue;
      resize_row(isa, from, row, s.columns, s.held[row % 2].data());
      held[row % 2] = row;
    }
    blend_rows(isa, s.held[wanted[0] % 2].data(), s.held[wanted[1] % 2].data(), taps,
               reinterpret_cast<std::uint8_t*>(s.blended.data()), count);
    warp_kernels(isa).pack(s.blended.data(), to.width, to.row(y));
  }
}

}  // namespace brim
