#include "decode_area.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace brim::detail {
namespace {

constexpr int kRowBits = 15;     // weights of rows sum to 2^15
constexpr int kColumnBits = 14;  // weights of columns sum to 2^14: each fits int16
constexpr int kMeanBits = 7;     // fraction bits of a row's mean
constexpr int kShift = kColumnBits + kMeanBits;

/// Share of the first `covered` of `length` units, rounded; differences of it sum to 2^bits.
std::int64_t share(std::int64_t covered, std::int64_t length, int bits) {
  return ((covered << bits) + length / 2) / length;
}

/// sum[i] (+)= weight * row[i]
template <bool kFirst>
void add_row(const std::uint8_t* row, std::uint16_t weight, std::uint32_t* sum, int samples) {
  int i = 0;
#if defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  const __m128i w = _mm_set1_epi16(static_cast<short>(weight));
  for (; i + 8 <= samples; i += 8) {
    const __m128i p =
        _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i)), zero);
    const __m128i low = _mm_mullo_epi16(p, w);
    const __m128i high = _mm_mulhi_epu16(p, w);
    __m128i a = _mm_unpacklo_epi16(low, high);
    __m128i b = _mm_unpackhi_epi16(low, high);
    auto* const to = reinterpret_cast<__m128i*>(sum + i);
    if constexpr (!kFirst) {
      a = _mm_add_epi32(a, _mm_loadu_si128(to));
      b = _mm_add_epi32(b, _mm_loadu_si128(to + 1));
    }
    _mm_storeu_si128(to, a);
    _mm_storeu_si128(to + 1, b);
  }
#endif
  for (; i < samples; ++i) {
    const std::uint32_t value = std::uint32_t{row[i]} * weight;
    sum[i] = kFirst ? value : sum[i] + value;
  }
}

/// mean[i] = sum[i] in 8.7 fixed point
void take_mean(const std::uint32_t* sum, std::int16_t* mean, int samples) {
  constexpr int kDrop = kRowBits - kMeanBits;
  int i = 0;
#if defined(__SSE2__)
  const __m128i half = _mm_set1_epi32(1 << (kDrop - 1));
  for (; i + 8 <= samples; i += 8) {
    const auto* const from = reinterpret_cast<const __m128i*>(sum + i);
    const __m128i a = _mm_srli_epi32(_mm_add_epi32(_mm_loadu_si128(from), half), kDrop);
    const __m128i b = _mm_srli_epi32(_mm_add_epi32(_mm_loadu_si128(from + 1), half), kDrop);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(mean + i), _mm_packs_epi32(a, b));
  }
#endif
  for (; i < samples; ++i) {
    mean[i] = static_cast<std::int16_t>((sum[i] + (1u << (kDrop - 1))) >> kDrop);
  }
}

/// One RGB pixel: sum over pairs of taps. `mean` may be read 8 samples past the last tap.
inline void reduce_pixel(const std::int16_t* mean, const std::int32_t* weight, int pairs,
                         std::uint8_t* out) {
#if defined(__SSE2__)
  __m128i sum = _mm_set1_epi32(1 << (kShift - 1));
  for (int k = 0; k < pairs; ++k, mean += 6) {
    const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(mean));
    const __m128i second = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(mean + 3));
    sum = _mm_add_epi32(
        sum, _mm_madd_epi16(_mm_unpacklo_epi16(first, second), _mm_set1_epi32(weight[k])));
  }
  sum = _mm_packs_epi32(_mm_srai_epi32(sum, kShift), sum);
  const int packed = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
  std::memcpy(out, &packed, 4);  // the fourth byte is overwritten by the next pixel
#else
  std::int32_t sum[3] = {1 << (kShift - 1), 1 << (kShift - 1), 1 << (kShift - 1)};
  for (int k = 0; k < pairs; ++k, mean += 6) {
    const auto w0 = static_cast<std::int16_t>(weight[k] & 0xFFFF);
    const auto w1 = static_cast<std::int16_t>(weight[k] >> 16);
    for (int c = 0; c < 3; ++c) sum[c] += mean[c] * w0 + mean[c + 3] * w1;
  }
  for (int c = 0; c < 3; ++c) out[c] = static_cast<std::uint8_t>(sum[c] >> kShift);
#endif
}

}  // namespace

void AreaReducer::begin(int width, int height, int out_width, int out_height) {
  width_ = width;
  height_ = height;
  out_width_ = out_width;
  out_height_ = out_height;
  source_row_ = 0;
  out_row_ = 0;
  if (taps_for_width_ != width || taps_for_out_width_ != out_width) make_taps();
  sum_.resize(std::size_t{3} * width);
  out_.resize(std::size_t{3} * out_width + 1);
}

void AreaReducer::make_taps() {
  const std::int64_t source = width_, out = out_width_;
  const int most = static_cast<int>((source + out - 1) / out) + 1;
  pairs_ = (most + 1) / 2;
  offset_.assign(out_width_, 0);
  weight_.assign(std::size_t(out_width_) * pairs_, 0);
  // Result pixel x covers [x * source, (x + 1) * source), source pixel i [i * out, (i + 1) * out).
  for (std::int64_t x = 0; x < out; ++x) {
    const std::int64_t begin = x * source, end = begin + source;
    const std::int64_t first = begin / out;
    offset_[x] = static_cast<std::int32_t>(3 * first);
    std::int64_t before = 0;
    for (std::int64_t i = first; i * out < end; ++i) {
      const std::int64_t until = share(std::min(end, (i + 1) * out) - begin, source, kColumnBits);
      const auto tap = static_cast<std::size_t>(i - first);
      const auto weight = static_cast<std::int32_t>(until - before);
      weight_[x * pairs_ + tap / 2] |= weight << (tap % 2 * 16);
      before = until;
    }
  }
  // The padding is multiplied by weights of 0, it only has to exist.
  mean_.assign(std::size_t{3} * width_ + std::size_t{6} * pairs_ + 16, 0);
  taps_for_width_ = width_;
  taps_for_out_width_ = out_width_;
}

const std::uint8_t* AreaReducer::push(const std::uint8_t* row) {
  const int samples = 3 * width_;
  const std::int64_t begin = out_row_ * height_, end = begin + height_;
  const std::int64_t low = source_row_ * out_height_, high = low + out_height_;
  ++source_row_;
  const std::int64_t before = share(low - begin, height_, kRowBits);
  const std::int64_t until = share(std::min(high, end) - begin, height_, kRowBits);
  const auto weight = static_cast<std::uint16_t>(until - before);
  if (low == begin) {
    add_row<true>(row, weight, sum_.data(), samples);
  } else {
    add_row<false>(row, weight, sum_.data(), samples);
  }
  if (high < end) return nullptr;
  take_mean(sum_.data(), mean_.data(), samples);
  ++out_row_;
  if (high > end) {  // the rest of this row opens the next result row
    add_row<true>(row, static_cast<std::uint16_t>(share(high - end, height_, kRowBits)),
                  sum_.data(), samples);
  }
  finish_row();
  return out_.data();
}

void AreaReducer::finish_row() {
  std::uint8_t* out = out_.data();
  for (int x = 0; x < out_width_; ++x, out += 3) {
    reduce_pixel(mean_.data() + offset_[x], weight_.data() + std::size_t(x) * pairs_, pairs_, out);
  }
}

std::int64_t AreaReducer::bytes() const {
  return static_cast<std::int64_t>(sum_.size() * 4 + mean_.size() * 2 + out_.size() +
                                   (offset_.size() + weight_.size()) * 4);
}

}  // namespace brim::detail
