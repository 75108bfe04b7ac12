#include "plane_filter.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "plane_channels.h"

namespace brim::detail {
namespace {

constexpr int kGroup = 32;   // pixels that the kernels work on at once
constexpr int kWindow = 16;  // columns that one shuffle reaches
constexpr int kHalf = 128;   // both the offset of a blended value and half a weight

bool is_zero(std::uint8_t weight) {
  return weight == 0;
}

void blend_portable(const RowTaps& taps, int first, int from, int count, std::int8_t* planes,
                    std::ptrdiff_t pitch) {
  for (int x = from; x < count; ++x) {
    for (int c = 0; c < 3; ++c) {
      int sum = kHalf;
      for (int k = 0; k < taps.count; ++k) {
        sum += taps.weights[k] * (taps.rows[k][3 * (first + x) + c] - kHalf);
      }
      planes[c * pitch + x] = static_cast<std::int8_t>(sum >> 8);
    }
  }
}

#if BRIM_X86
/// Sums of 32 weighted values of two rows: of the bytes that unpacking brings down, and up.
struct Sums {
  __m256i low, high;
};

BRIM_PART_AVX2 void add(const std::uint8_t* first, const std::uint8_t* second, __m256i weights,
                        Sums& sums) {
  const __m256i offset = _mm256_set1_epi8(-kHalf);
  const __m256i a =
      _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)), offset);
  const __m256i b =
      _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)), offset);
  sums.low = _mm256_add_epi16(sums.low, _mm256_maddubs_epi16(weights, _mm256_unpacklo_epi8(a, b)));
  sums.high =
      _mm256_add_epi16(sums.high, _mm256_maddubs_epi16(weights, _mm256_unpackhi_epi8(a, b)));
}

BRIM_PART_AVX2 __m256i bytes_of(const Sums& sums) {
  return _mm256_packs_epi16(_mm256_srai_epi16(sums.low, 8), _mm256_srai_epi16(sums.high, 8));
}

/// 32 columns from byte `at` of the rows on. `kTaps` is the number of taps, or 0: any.
template <int kTaps>
BRIM_PART_AVX2 void blend_group(const RowTaps& taps, std::ptrdiff_t at, std::int8_t* out,
                                std::ptrdiff_t pitch) {
  const __m256i half = _mm256_set1_epi16(kHalf);
  Sums one{half, half}, two = one, three = one;
  const int count = kTaps != 0 ? kTaps : taps.count;
  for (int k = 0; k < count; k += 2) {
    std::int16_t both;
    std::memcpy(&both, taps.weights + k, sizeof both);
    const __m256i weights = _mm256_set1_epi16(both);
    const std::uint8_t *first = taps.rows[k] + at, *second = taps.rows[k + 1] + at;
    add(first, second, weights, one);
    add(first + 32, second + 32, weights, two);
    add(first + 64, second + 64, weights, three);
  }
  split_channels(bytes_of(one), bytes_of(two), bytes_of(three), out, pitch);
}

template <int kTaps>
BRIM_TARGET_AVX2 void blend_avx2(const RowTaps& taps, int first, int count, std::int8_t* planes,
                                 std::ptrdiff_t pitch) {
  const std::uint8_t* const fetched = taps.rows[0] + std::ptrdiff_t{3} * first + taps.ahead;
  for (int x = 0; x < count; x += kGroup) {
    const int from = std::min(x, count - kGroup);  // the last overlaps
    if (taps.ahead != 0) {
      __builtin_prefetch(fetched + 3 * from);
      __builtin_prefetch(fetched + 3 * from + 64);
    }
    blend_group<kTaps>(taps, std::ptrdiff_t{3} * (first + from), planes + from, pitch);
  }
}

BRIM_PART_AVX2 __m256i two_windows(const std::int8_t* first, const std::int8_t* second) {
  return _mm256_inserti128_si256(
      _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first))),
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(second)), 1);
}

/// Taps of pixels 0..7 and 16..23 of a group (`kPart` 0) or of 8..15 and 24..31. `kPixels` is how
/// many pixels a window serves.
template <int kPixels, int kPart>
BRIM_PART_AVX2 __m256i taps_of(const std::int8_t* plane, const std::int32_t* windows,
                               const __m256i* orders) {
  if constexpr (kPixels == 8) {
    return _mm256_shuffle_epi8(two_windows(plane + windows[kPart], plane + windows[kPart + 2]),
                               orders[kPart]);
  }
  const std::int32_t* const at = windows + 2 * kPart;
  return _mm256_unpacklo_epi64(
      _mm256_shuffle_epi8(two_windows(plane + at[0], plane + at[4]), orders[2 * kPart]),
      _mm256_shuffle_epi8(two_windows(plane + at[1], plane + at[5]), orders[2 * kPart + 1]));
}

/// What the kernel needs of a ColumnFilter.
struct Plan {
  int groups = 0, pairs = 0;
  const std::int32_t* windows = nullptr;
  const __m256i* orders = nullptr;
  const __m256i* weights = nullptr;
};

/// 32 pixels of one channel. `kPairs` is the number of pairs of taps, or 0: any.
template <int kPixels, int kPairs>
BRIM_PART_AVX2 __m256i filter_group(const std::int8_t* plane, const Plan& plan) {
  // Half a weight, and the blended values' offset times 256.
  __m256i a = _mm256_set1_epi16(static_cast<short>(kHalf + (kHalf << 8))), b = a;
  const int pairs = kPairs != 0 ? kPairs : plan.pairs;
  for (int pair = 0; pair < pairs; ++pair) {
    const std::int8_t* const at = plane + 2 * pair;
    a = _mm256_add_epi16(a,
                         _mm256_maddubs_epi16(plan.weights[2 * pair],
                                              taps_of<kPixels, 0>(at, plan.windows, plan.orders)));
    b = _mm256_add_epi16(b,
                         _mm256_maddubs_epi16(plan.weights[2 * pair + 1],
                                              taps_of<kPixels, 1>(at, plan.windows, plan.orders)));
  }
  return _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
}

template <int kPixels, int kPairs>
BRIM_TARGET_AVX2 void filter_avx2(Plan plan, const std::int8_t* plane, std::ptrdiff_t plane_pitch,
                                  std::uint8_t* out, std::ptrdiff_t out_pitch) {
  for (int group = 0; group < plan.groups; ++group, out += kGroup) {
    const __m256i red = filter_group<kPixels, kPairs>(plane, plan);
    const __m256i green = filter_group<kPixels, kPairs>(plane + plane_pitch, plan);
    const __m256i blue = filter_group<kPixels, kPairs>(plane + 2 * plane_pitch, plan);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), red);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + out_pitch), green);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * out_pitch), blue);
    plan.windows += kGroup / kPixels;
    plan.orders += kGroup / kPixels / 2;
    plan.weights += 2 * plan.pairs;
  }
}
#endif

}  // namespace

void BlendedRow::blend(Isa isa, const RowTaps& given, int first, int count, int repeats) {
  RowTaps taps = given;
  // A row alone is blended with itself.
  static constexpr std::array<std::uint8_t, 2> kHalves{kHalf, kHalf};
  const std::array<const std::uint8_t*, 2> twice{given.rows[0], given.rows[0]};
  if (std::all_of(given.weights, given.weights + given.count, is_zero)) {
    taps = {twice.data(), kHalves.data(), 2};
  }
  pitch_ = (count + repeats + kWindow + kGroup - 1) / kGroup * kGroup;
  if (bytes_.size() < static_cast<std::size_t>(3 * pitch_)) {
    bytes_.resize(static_cast<std::size_t>(3 * pitch_));
  }
#if BRIM_X86
  if (isa != Isa::Portable && count >= kGroup) {
    const auto kernel = taps.count == 2   ? blend_avx2<2>
                        : taps.count == 4 ? blend_avx2<4>
                                          : blend_avx2<0>;
    kernel(taps, first, count, bytes_.data(), pitch_);
  } else
#endif
  {
    (void)isa;
    blend_portable(taps, first, 0, count, bytes_.data(), pitch_);
  }
  for (int c = 0; c < 3; ++c) {
    std::int8_t* const end = bytes_.data() + c * pitch_ + count;
    std::memset(end, end[-1], static_cast<std::size_t>(repeats));
  }
}

void ColumnFilter::begin_plan(int begin, int end, int taps) {
  begin_ = begin;
  end_ = end;
  taps_ = taps;
  const auto count = static_cast<std::size_t>(end - begin);
  first_.assign(count, 0);
  weights_.assign(count * static_cast<std::size_t>(taps), 0);
}

std::uint8_t* ColumnFilter::set(int x, int first) {
  const auto i = static_cast<std::size_t>(x - begin_);
  first_[i] = first;
  return weights_.data() + i * static_cast<std::size_t>(taps_);
}

void ColumnFilter::end_plan(int low, int high) {
  const auto [least, most] = std::minmax_element(first_.begin(), first_.end());
  first_column_ = std::max(low, *least);
  column_count_ = std::min(*most + taps_, high) - first_column_;
  for (std::int32_t& first : first_) first -= first_column_;
  reach_ = plan_windows(8) ? Reach::Eight : plan_windows(4) ? Reach::Four : Reach::Fewer;
  if (reach_ != Reach::Fewer) plan_weights();
}

bool ColumnFilter::alone(std::size_t pixel) const {
  const std::uint8_t* const weights = weights_.data() + pixel * static_cast<std::size_t>(taps_);
  return std::all_of(weights, weights + taps_, is_zero);
}

/// Windows and orders where one window serves `pixels` neighbours; false: it cannot.
bool ColumnFilter::plan_windows(int pixels) {
  const int count = end_ - begin_, groups = (count + kGroup - 1) / kGroup;
  const int runs = kGroup / pixels;  // per group
  windows_.resize(static_cast<std::size_t>(groups * runs));
  orders_.resize(static_cast<std::size_t>(groups * runs / 2));
  for (int run = 0; run < groups * runs; ++run) {
    const auto pixel = [&](int i) {
      return static_cast<std::size_t>(std::min(run * pixels + i, count - 1));
    };
    const auto column = [&](int i) { return first_[pixel(i)]; };
    const int low = std::min(column(0), column(pixels - 1));
    if (std::max(column(0), column(pixels - 1)) - low + 2 > kWindow) return false;
    windows_[static_cast<std::size_t>(run)] = low;
    // Runs of the first half of a group stand in the lower halves of its registers.
    const int group = run / runs, within = run % runs;
    const int lanes = group * (runs / 2) + within % (runs / 2);
    std::uint8_t* const order =
        orders_[static_cast<std::size_t>(lanes)].at.data() + (within < runs / 2 ? 0 : 16);
    for (int i = 0; i < pixels; ++i) {
      order[2 * i] = static_cast<std::uint8_t>(column(i) - low);
      order[2 * i + 1] = static_cast<std::uint8_t>(order[2 * i] + (alone(pixel(i)) ? 0 : 1));
    }
  }
  return true;
}

void ColumnFilter::plan_weights() {
  const int count = end_ - begin_, groups = (count + kGroup - 1) / kGroup, pairs = taps_ / 2;
  paired_weights_.resize(static_cast<std::size_t>(groups * pairs * 2));
  for (int group = 0; group < groups; ++group) {
    for (int i = 0; i < kGroup; ++i) {
      const int x = std::min(group * kGroup + i, count - 1);
      const std::uint8_t* const from = weights_.data() + std::ptrdiff_t{x} * taps_;
      const int part = i / 8 % 2, at = i / 16 * 16 + i % 8 * 2;
      for (int pair = 0; pair < pairs; ++pair) {
        const int lanes = (group * pairs + pair) * 2 + part;
        std::uint8_t* const to = paired_weights_[static_cast<std::size_t>(lanes)].at.data() + at;
        std::memcpy(to, from + 2 * pair, 2);
        if (pair == 0 && alone(static_cast<std::size_t>(x))) to[0] = to[1] = kHalf;
      }
    }
  }
}

void ColumnFilter::apply(Isa isa, const BlendedRow& from, PixelRow& row) const {
#if BRIM_X86
  if (isa != Isa::Portable && reach_ != Reach::Fewer) return apply_avx2(from, row);
#endif
  (void)isa;
  apply_portable(from, row);
}

void ColumnFilter::apply_portable(const BlendedRow& from, PixelRow& row) const {
  for (int c = 0; c < 3; ++c) {
    const std::int8_t* const plane = from.plane(c);
    std::uint8_t* const out = row.plane(c) + begin_;
    const std::uint8_t* weight = weights_.data();
    for (std::size_t x = 0; x < first_.size(); ++x, weight += taps_) {
      const std::int8_t* const tap = plane + first_[x];
      int sum = alone(x) ? kHalf + 256 * tap[0] : kHalf;
      for (int k = 0; k < taps_; ++k) sum += weight[k] * tap[k];
      out[x] = static_cast<std::uint8_t>((sum >> 8) + kHalf);
    }
  }
}

#if BRIM_X86
void ColumnFilter::apply_avx2(const BlendedRow& from, PixelRow& row) const {
  const Plan plan{(end_ - begin_ + kGroup - 1) / kGroup, taps_ / 2, windows_.data(),
                  reinterpret_cast<const __m256i*>(orders_.data()),
                  reinterpret_cast<const __m256i*>(paired_weights_.data())};
  const bool eight = reach_ == Reach::Eight;
  const auto kernel = plan.pairs == 1 ? (eight ? filter_avx2<8, 1> : filter_avx2<4, 1>)
                                      : (eight ? filter_avx2<8, 0> : filter_avx2<4, 0>);
  kernel(plan, from.plane(0), from.pitch(), row.plane(0) + begin_, row.pitch());
}
#endif

void to_weights(const double* shares, int count, std::uint8_t* weights) {
  std::fill_n(weights, count, std::uint8_t{0});
  int left = 256, heaviest = 0;
  for (int k = 0; k < count; ++k) {
    const int weight = std::min(left, static_cast<int>(std::lround(shares[k] * 256)));
    if (weight == 256) return;
    weights[k] = static_cast<std::uint8_t>(weight);
    left -= weight;
    if (weights[heaviest] < weight) heaviest = k;
  }
  if (weights[heaviest] + left == 256) return;
  weights[heaviest] = static_cast<std::uint8_t>(weights[heaviest] + left);
}

}  // namespace brim::detail
