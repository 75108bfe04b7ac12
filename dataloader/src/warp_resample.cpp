#include "warp_resample.h"

#include <algorithm>
#include <cmath>

#if BRIM_X86
#include <immintrin.h>
#endif

namespace brim::detail {
namespace {

constexpr int kOne = 65535;

BRIM_ALWAYS_INLINE std::uint16_t share_of(std::uint8_t value, std::uint16_t weight) {
  const auto lifted = static_cast<std::uint16_t>(value << 8);
  return static_cast<std::uint16_t>((static_cast<std::uint32_t>(lifted) * weight) >> 16);
}

/// Two rows by their weights (of 1/65536), in 8.8 fixed point; `first` begins a sum, else it grows.
struct RowPair {
  const std::uint8_t* rows[2];
  std::uint16_t weights[2];
  bool first;
};

BRIM_ALWAYS_INLINE void add_rows_body(const RowPair& pair, std::uint16_t* __restrict sum,
                                      int count) {
  const std::uint8_t *a = pair.rows[0], *b = pair.rows[1];
  const std::uint16_t wa = pair.weights[0], wb = pair.weights[1];
  if (pair.first) {
    for (int i = 0; i < count; ++i) {
      sum[i] = static_cast<std::uint16_t>(share_of(a[i], wa) + share_of(b[i], wb));
    }
  } else {
    for (int i = 0; i < count; ++i) {
      sum[i] = static_cast<std::uint16_t>(sum[i] + share_of(a[i], wa) + share_of(b[i], wb));
    }
  }
}

void add_rows_portable(const RowPair& pair, std::uint16_t* sum, int count) {
  add_rows_body(pair, sum, count);
}
#if BRIM_X86
BRIM_TARGET_AVX2 void add_rows_avx2(const RowPair& pair, std::uint16_t* sum, int count) {
  add_rows_body(pair, sum, count);
}
#endif

void add_rows(Isa isa, const RowPair& pair, std::uint16_t* sum, int count) {
#if BRIM_X86
  if (isa != Isa::Portable) return add_rows_avx2(pair, sum, count);
#endif
  (void)isa;
  add_rows_portable(pair, sum, count);
}

/// A row of output from a blended row of RGB in 8.8: every pixel the sum of `count` (even) taps.
/// Weights stand four times each, one per lane.
void weigh_row_portable(const std::uint16_t* row, const std::vector<ResampleTaps>& taps,
                        const std::uint16_t* weights, Pixel* out) {
  for (const ResampleTaps& tap : taps) {
    const std::uint16_t* from = row + std::ptrdiff_t{3} * tap.first;
    const std::uint16_t* weight = weights + 4 * tap.weights;
    std::uint32_t sum[3] = {128, 128, 128};
    for (int k = 0; k < tap.count; ++k) {
      for (int c = 0; c < 3; ++c) {
        sum[c] += (static_cast<std::uint32_t>(from[3 * k + c]) * weight[4 * k]) >> 16;
      }
    }
    *out++ = make_pixel(sum[0] >> 8, sum[1] >> 8, sum[2] >> 8);
  }
}

#if BRIM_X86
/// The same, two taps at once: 16 bytes hold two pixels and part of a third, which is dropped.
BRIM_TARGET_AVX2 void weigh_row_avx2(const std::uint16_t* row,
                                     const std::vector<ResampleTaps>& taps,
                                     const std::uint16_t* weights, Pixel* out) {
  const __m128i order = _mm_setr_epi8(0, 1, 2, 3, 4, 5, -1, -1, 6, 7, 8, 9, 10, 11, -1, -1);
  const __m128i half = _mm_set1_epi16(128);
  for (const ResampleTaps& tap : taps) {
    const std::uint16_t* from = row + std::ptrdiff_t{3} * tap.first;
    const std::uint16_t* weight = weights + 4 * tap.weights;
    __m128i sum = _mm_setzero_si128();
    for (int k = 0; k < tap.count; k += 2, from += 6, weight += 8) {
      const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      const __m128i share = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight));
      sum = _mm_add_epi16(sum, _mm_mulhi_epu16(_mm_shuffle_epi8(two, order), share));
    }
    sum = _mm_add_epi16(_mm_add_epi16(sum, half), _mm_unpackhi_epi64(sum, sum));
    sum = _mm_srli_epi16(sum, 8);
    *out++ = static_cast<Pixel>(_mm_cvtsi128_si32(_mm_packus_epi16(sum, sum))) & 0xFFFFFFu;
  }
}
#endif

void weigh_row(Isa isa, const std::uint16_t* row, const std::vector<ResampleTaps>& taps,
               const std::uint16_t* weights, Pixel* out) {
#if BRIM_X86
  if (isa != Isa::Portable) return weigh_row_avx2(row, taps, weights, out);
#endif
  (void)isa;
  weigh_row_portable(row, taps, weights, out);
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
    ResampleTaps& taps = axis.taps[static_cast<std::size_t>(mirrored ? count - 1 - i : i)];
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
  int end = 0, most = 0;
  for (const ResampleTaps& taps : columns_.taps) {
    first_column_ = std::min(first_column_, taps.first);
    end = std::max(end, taps.first + taps.count);
    most = std::max(most, taps.count);
  }
  column_count_ = std::min(end, pixels.width) - first_column_;
  // Every column gets as many taps as the widest, so that the inner loop never changes its length.
  column_weights_.clear();
  for (ResampleTaps& taps : columns_.taps) {
    const std::uint16_t* weights = columns_.weights.data() + taps.weights;
    taps.weights = column_weights_.size() / 4;
    for (int k = 0; k < most; ++k) {
      column_weights_.insert(column_weights_.end(), 4, k < taps.count ? weights[k] : 0);
    }
    taps.first -= first_column_;
    taps.count = most;
  }
  // Taps that weigh nothing and 16-byte loads reach past the end.
  sum_.assign(static_cast<std::size_t>(column_count_ + most) * 3 + 8, 0);
}

void Resampler::row(int y, Pixel* out) {
  const ResampleTaps& taps = rows_.taps[static_cast<std::size_t>(y)];
  const std::uint16_t* weights = rows_.weights.data() + taps.weights;
  for (int k = 0; k < taps.count; k += 2) {
    const auto at = [&](int tap) {
      const int row = std::min(taps.first + tap, pixels_.height - 1);  // the last may be a filler
      return pixels_.row(row) + std::ptrdiff_t{3} * first_column_;
    };
    add_rows(isa_, {{at(k), at(k + 1)}, {weights[k], weights[k + 1]}, k == 0}, sum_.data(),
             column_count_ * 3);
  }
  weigh_row(isa_, sum_.data(), columns_.taps, column_weights_.data(), out);
}

}  // namespace brim::detail
