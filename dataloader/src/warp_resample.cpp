#include "warp_resample.h"

#include <algorithm>
#include <cmath>

#if BRIM_X86
#include <emmintrin.h>
#endif

namespace brim::detail {
namespace {

constexpr int kOne = 65535;

/// sum += row * weight / 65536, in 8.8 fixed point.
BRIM_ALWAYS_INLINE void add_row_body(const std::uint8_t* __restrict row, std::uint16_t weight,
                                     std::uint16_t* __restrict sum, int count) {
  for (int i = 0; i < count; ++i) {
    const auto lifted = static_cast<std::uint16_t>(row[i] << 8);
    sum[i] = static_cast<std::uint16_t>(
        sum[i] + static_cast<std::uint16_t>((static_cast<std::uint32_t>(lifted) * weight) >> 16));
  }
}

void add_row_portable(const std::uint8_t* row, std::uint16_t weight, std::uint16_t* sum,
                      int count) {
  add_row_body(row, weight, sum, count);
}
#if BRIM_X86
BRIM_TARGET_AVX2 void add_row_avx2(const std::uint8_t* row, std::uint16_t weight,
                                   std::uint16_t* sum, int count) {
  add_row_body(row, weight, sum, count);
}
#endif

void add_row(Isa isa, const std::uint8_t* row, std::uint16_t weight, std::uint16_t* sum,
             int count) {
#if BRIM_X86
  if (isa != Isa::Portable) return add_row_avx2(row, weight, sum, count);
#endif
  (void)isa;
  add_row_portable(row, weight, sum, count);
}

/// Sum of `count` RGB0 pixels (8.8) by their weights, rounded to 8 bits.
Pixel weigh_portable(const std::uint16_t* pixels, const std::uint16_t* weights, int count) {
  std::uint32_t sum[3] = {128, 128, 128};
  for (int k = 0; k < count; ++k) {
    for (int c = 0; c < 3; ++c) {
      sum[c] += (static_cast<std::uint32_t>(pixels[4 * k + c]) * weights[k]) >> 16;
    }
  }
  return make_pixel(sum[0] >> 8, sum[1] >> 8, sum[2] >> 8);
}

#if BRIM_X86
/// The same, two taps at once (`count` is even); SSE2 is part of x86-64.
Pixel weigh_sse2(const std::uint16_t* pixels, const std::uint16_t* weights, int count) {
  __m128i sum = _mm_setzero_si128();
  for (int k = 0; k < count; k += 2) {
    const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels + 4 * k));
    const __m128i left = _mm_set1_epi16(static_cast<short>(weights[k]));
    const __m128i right = _mm_set1_epi16(static_cast<short>(weights[k + 1]));
    sum = _mm_add_epi16(sum, _mm_mulhi_epu16(two, _mm_unpacklo_epi64(left, right)));
  }
  sum = _mm_add_epi16(sum, _mm_unpackhi_epi64(sum, sum));
  sum = _mm_srli_epi16(_mm_add_epi16(sum, _mm_set1_epi16(128)), 8);
  return static_cast<Pixel>(_mm_cvtsi128_si32(_mm_packus_epi16(sum, sum))) & 0xFFFFFFu;
}
#endif

Pixel weigh(Isa isa, const std::uint16_t* pixels, const std::uint16_t* weights, int count) {
#if BRIM_X86
  if (isa != Isa::Portable) return weigh_sse2(pixels, weights, count);
#endif
  (void)isa;
  return weigh_portable(pixels, weights, count);
}

}  // namespace

void Resampler::plan_axis(double low, double high, int limit, int count, bool mirrored,
                          Axis& axis) {
  constexpr double kNoise = 1e-6;
  const int first_allowed = std::clamp(static_cast<int>(std::floor(low + kNoise)), 0, limit - 1);
  const int end_allowed =
      std::clamp(static_cast<int>(std::ceil(high - kNoise)), first_allowed + 1, limit);
  const double scale = (high - low) / count, support = std::max(1.0, scale);
  axis.taps.resize(static_cast<std::size_t>(count));
  axis.weights.clear();
  for (int i = 0; i < count; ++i) {
    const double centre = low + (i + 0.5) * scale - 0.5;
    int first = std::max(first_allowed, static_cast<int>(std::ceil(centre - support)));
    int last = std::min(end_allowed - 1, static_cast<int>(std::floor(centre + support)));
    if (first > last) first = last = std::clamp(first, first_allowed, end_allowed - 1);
    double total = 0;
    for (int k = first; k <= last; ++k) total += std::max(0.0, 1 - std::fabs(k - centre) / support);
    Taps& taps = axis.taps[static_cast<std::size_t>(mirrored ? count - 1 - i : i)];
    taps = {first, last - first + 1, axis.weights.size()};
    int left = kOne;
    std::size_t heaviest = taps.weights;
    for (int k = first; k <= last; ++k) {
      const double share =
          total > 0 ? std::max(0.0, 1 - std::fabs(k - centre) / support) / total : 1.0;
      const int weight = std::min(left, static_cast<int>(share * kOne + 0.5));
      left -= weight;
      axis.weights.push_back(static_cast<std::uint16_t>(weight));
      if (axis.weights[heaviest] < weight) heaviest = axis.weights.size() - 1;
    }
    axis.weights[heaviest] = static_cast<std::uint16_t>(axis.weights[heaviest] + left);
    if (taps.count % 2 != 0) {
      axis.weights.push_back(0);
      ++taps.count;
    }
  }
}

void Resampler::plan(const ImageView& pixels, const RectD& rect, Size out, Flips flips) {
  pixels_ = pixels;
  plan_axis(rect.x1, rect.x2, pixels.width, out.width, flips.left_right, columns_);
  plan_axis(rect.y1, rect.y2, pixels.height, out.height, flips.up_down, rows_);
  first_column_ = pixels.width;
  int end = 0;
  for (const Taps& taps : columns_.taps) {
    first_column_ = std::min(first_column_, taps.first);
    end = std::max(end, taps.first + taps.count);
  }
  column_count_ = std::min(end, pixels.width) - first_column_;
  sum_.resize(static_cast<std::size_t>(column_count_) * 3);
  wide_.assign((static_cast<std::size_t>(column_count_) + 1) * 4, 0);
}

void Resampler::row(int y, Pixel* out) {
  const Taps& taps = rows_.taps[static_cast<std::size_t>(y)];
  std::fill(sum_.begin(), sum_.end(), std::uint16_t{0});
  for (int k = 0; k < taps.count; ++k) {
    const std::uint16_t weight = rows_.weights[taps.weights + static_cast<std::size_t>(k)];
    if (weight == 0) continue;
    add_row(isa_, pixels_.row(taps.first + k) + std::ptrdiff_t{3} * first_column_, weight,
            sum_.data(), column_count_ * 3);
  }
  for (int x = 0; x < column_count_; ++x) {
    for (int c = 0; c < 3; ++c) {
      wide_[static_cast<std::size_t>(4 * x + c)] = sum_[static_cast<std::size_t>(3 * x + c)];
    }
  }
  for (const Taps& column : columns_.taps) {
    *out++ = weigh(isa_, wide_.data() + std::ptrdiff_t{4} * (column.first - first_column_),
                   columns_.weights.data() + column.weights, column.count);
  }
}

}  // namespace brim::detail
