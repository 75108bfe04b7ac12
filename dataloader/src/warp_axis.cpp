#include "warp_axis.h"

#include <algorithm>
#include <array>
#include <cmath>

#if BRIM_X86
#include <immintrin.h>
#endif

namespace brim::detail {
namespace {

using U16 = std::uint16_t;

constexpr int kLanes = 32;   // 16-bit values of a 512-bit register
constexpr int kWindow = 64;  // source columns that one permutation reaches
constexpr int kWidest = 32768;

/// Two source rows blended, 128 times the 8-bit value.
BRIM_ALWAYS_INLINE void blend_body(const AxisRows& rows, int first, int count,
                                   U16* __restrict blended) {
  const std::uint8_t* top = rows.top + std::ptrdiff_t{3} * first;
  const std::uint8_t* bottom = rows.bottom + std::ptrdiff_t{3} * first;
  const auto w0 = static_cast<U16>(128 - rows.weight), w1 = static_cast<U16>(rows.weight);
  for (int i = 0; i < 3 * count; ++i) blended[i] = static_cast<U16>(top[i] * w0 + bottom[i] * w1);
}

void taps_portable(const U16* blended, const AxisColumns& columns, int begin, int end, Pixel* row) {
  for (int x = begin; x < end; ++x) {
    const auto i = static_cast<std::size_t>(x);
    const U16* left = blended + std::ptrdiff_t{3} * columns.column[i];
    const int weight = columns.weight[i];
    Pixel pixel = 0;
    for (int c = 0; c < 3; ++c) {
      const int value = left[c] + ((((left[c + 3] - left[c]) * weight >> 14) + 1) >> 1);
      pixel |= static_cast<Pixel>((value + 64) >> 7) << (8 * c);
    }
    row[x] = pixel;
  }
}

void paint_portable(const AxisRows& rows, const AxisColumns& columns, int begin, int end, U16* work,
                    Pixel* row) {
  blend_body(rows, columns.first, columns.count, work);
  taps_portable(work, columns, begin, end, row);
}

#if BRIM_X86
/// Two pixels at once, each from one 16-byte load: the left tap's channels, then the right one's.
BRIM_TARGET_AVX2 inline __m256i two_taps(const U16* blended, const U16* column, const U16* weight) {
  const auto load = [blended](U16 at) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(blended + std::ptrdiff_t{3} * at));
  };
  const __m256i left = _mm256_set_m128i(load(column[1]), load(column[0]));
  const __m256i right = _mm256_srli_si256(left, 6);
  const __m256i share = _mm256_set_m128i(_mm_set1_epi16(static_cast<short>(weight[1])),
                                         _mm_set1_epi16(static_cast<short>(weight[0])));
  const __m256i value =
      _mm256_add_epi16(left, _mm256_mulhrs_epi16(_mm256_sub_epi16(right, left), share));
  return _mm256_srli_epi16(_mm256_add_epi16(value, _mm256_set1_epi16(64)), 7);
}

BRIM_TARGET_AVX2 void paint_avx2(const AxisRows& rows, const AxisColumns& columns, int begin,
                                 int end, U16* work, Pixel* row) {
  const std::uint8_t* fetched = rows.top + std::ptrdiff_t{3} * columns.first + rows.ahead;
  for (int i = 0; i < 3 * columns.count; i += 64) __builtin_prefetch(fetched + i);
  blend_body(rows, columns.first, columns.count, work);
  const U16 *column = columns.column.data(), *weight = columns.weight.data();
  const __m256i colours = _mm256_set1_epi64x(0xFFFFFF);
  int x = begin;
  for (; x + 4 <= end; x += 4) {
    const __m256i low = two_taps(work, column + x, weight + x);
    const __m256i high = two_taps(work, column + x + 2, weight + x + 2);
    // Bytes 0..3 of each half: its pixel and a fourth byte of no meaning.
    const __m256i packed =
        _mm256_and_si256(_mm256_packus_epi16(_mm256_and_si256(low, _mm256_set1_epi16(255)),
                                             _mm256_and_si256(high, _mm256_set1_epi16(255))),
                         colours);
    const __m256i order = _mm256_setr_epi32(0, 4, 2, 6, 0, 0, 0, 0);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row + x),
                     _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(packed, order)));
  }
  taps_portable(work, columns, x, end, row);
}

struct alignas(64) Order {
  std::array<U16, kLanes> at{};
};

/// Where channel `c` of 32 pixels stands in 96 interleaved values: in the first 64, or (`late`
/// lanes) in the last 32.
struct ChannelOrder {
  Order early, late;
  std::uint32_t is_late = 0;
};

constexpr ChannelOrder channel_order(int c) {
  ChannelOrder order;
  for (int i = 0; i < kLanes; ++i) {
    const int at = 3 * i + c;
    order.early.at[static_cast<std::size_t>(i)] = static_cast<U16>(at % kWindow);
    order.late.at[static_cast<std::size_t>(i)] = static_cast<U16>(at % kLanes);
    if (at >= kWindow) order.is_late |= std::uint32_t{1} << i;
  }
  return order;
}

/// Red-green words and blue words of pixels [from, from + 16) side by side.
constexpr Order pixel_order(int from) {
  Order order;
  for (int i = 0; i < kLanes; ++i) {
    order.at[static_cast<std::size_t>(i)] =
        static_cast<U16>(from + i / 2 + (i % 2 == 1 ? kLanes : 0));
  }
  return order;
}

constexpr std::array<ChannelOrder, 3> kChannels{channel_order(0), channel_order(1),
                                                channel_order(2)};
constexpr std::array<Order, 2> kPixels{pixel_order(0), pixel_order(16)};

BRIM_TARGET_AVX512 inline __m512i load_order(const Order& order) {
  return _mm512_load_si512(order.at.data());
}

/// 32 bytes of both rows blended; lanes without `mask` are not read.
BRIM_TARGET_AVX512 inline __m512i blend32(const std::uint8_t* top, const std::uint8_t* bottom,
                                          __mmask32 mask, __m512i w0, __m512i w1) {
  const __m512i a = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, top));
  const __m512i b = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, bottom));
  return _mm512_add_epi16(_mm512_mullo_epi16(a, w0), _mm512_mullo_epi16(b, w1));
}

BRIM_TARGET_AVX512 inline __mmask32 first_bytes(int count) {
  return count >= 32 ? ~__mmask32{0} : count <= 0 ? 0 : (__mmask32{1} << count) - 1;
}

/// Both rows blended, one plane of `pitch` values per channel.
BRIM_TARGET_AVX512 void blend_avx512(const AxisRows& rows, int first, int count, U16* planes,
                                     std::ptrdiff_t pitch) {
  const __m512i w0 = _mm512_set1_epi16(static_cast<short>(128 - rows.weight));
  const __m512i w1 = _mm512_set1_epi16(static_cast<short>(rows.weight));
  const __m512i early[3] = {load_order(kChannels[0].early), load_order(kChannels[1].early),
                            load_order(kChannels[2].early)};
  const __m512i late[3] = {load_order(kChannels[0].late), load_order(kChannels[1].late),
                           load_order(kChannels[2].late)};
  const std::uint8_t* top = rows.top + std::ptrdiff_t{3} * first;
  const std::uint8_t* bottom = rows.bottom + std::ptrdiff_t{3} * first;
  for (int i = 0; i < count; i += kLanes, top += 96, bottom += 96) {
    const int bytes = 3 * (count - i);
    __builtin_prefetch(top + rows.ahead);
    __builtin_prefetch(top + rows.ahead + 64);
    const __m512i a = blend32(top, bottom, first_bytes(bytes), w0, w1);
    const __m512i b = blend32(top + 32, bottom + 32, first_bytes(bytes - 32), w0, w1);
    const __m512i c = blend32(top + 64, bottom + 64, first_bytes(bytes - 64), w0, w1);
    for (int k = 0; k < 3; ++k) {
      const __m512i some = _mm512_permutex2var_epi16(a, early[k], b);
      _mm512_storeu_si512(planes + k * pitch + i,
                          _mm512_mask_permutexvar_epi16(
                              some, kChannels[static_cast<std::size_t>(k)].is_late, late[k], c));
    }
  }
}

/// 32 output values of one channel out of 64 columns from `plane` on.
BRIM_TARGET_AVX512 inline __m512i taps32(const U16* plane, __m512i at, __m512i next,
                                         __m512i weight) {
  const __m512i low = _mm512_loadu_si512(plane), high = _mm512_loadu_si512(plane + kLanes);
  const __m512i left = _mm512_permutex2var_epi16(low, at, high);
  const __m512i right = _mm512_permutex2var_epi16(low, next, high);
  const __m512i value =
      _mm512_add_epi16(left, _mm512_mulhrs_epi16(_mm512_sub_epi16(right, left), weight));
  return _mm512_srli_epi16(_mm512_add_epi16(value, _mm512_set1_epi16(64)), 7);
}

BRIM_TARGET_AVX512 void paint_avx512(const AxisRows& rows, const AxisColumns& columns, int begin,
                                     int end, U16* work, Pixel* row) {
  const std::ptrdiff_t pitch = columns.count + 2 * kWindow;
  blend_avx512(rows, columns.first, columns.count, work, pitch);
  const __m512i low = load_order(kPixels[0]), high = load_order(kPixels[1]);
  for (int x = begin; x < end; x += columns.step) {
    const U16* column = columns.column.data() + x;
    const int base = column[columns.mirrored ? columns.step - 1 : 0];
    const __m512i at =
        _mm512_sub_epi16(_mm512_loadu_si512(column), _mm512_set1_epi16(static_cast<short>(base)));
    const __m512i next = _mm512_add_epi16(at, _mm512_set1_epi16(1));
    const __m512i weight = _mm512_loadu_si512(columns.weight.data() + x);
    const U16* plane = work + base;
    const __m512i red = taps32(plane, at, next, weight);
    const __m512i green = taps32(plane + pitch, at, next, weight);
    const __m512i blue = taps32(plane + 2 * pitch, at, next, weight);
    const __m512i red_green = _mm512_or_si512(red, _mm512_slli_epi16(green, 8));
    const auto mask = first_bytes(std::min(columns.step, end - x));
    _mm512_mask_storeu_epi32(row + x, static_cast<__mmask16>(mask),
                             _mm512_permutex2var_epi16(red_green, low, blue));
    if (mask >> 16 == 0) continue;
    _mm512_mask_storeu_epi32(row + x + 16, static_cast<__mmask16>(mask >> 16),
                             _mm512_permutex2var_epi16(red_green, high, blue));
  }
}
#endif

}  // namespace

void AxisColumns::plan(double u, double du, int width, int begin, int end) {
  usable = begin < end && width >= 2 && width <= kWidest;
  if (!usable) return;
  mirrored = du < 0;
  step = kLanes;
  while (step > 1 && std::ceil((step - 1) * std::fabs(du)) + 2 > kWindow) step /= 2;
  column.resize(static_cast<std::size_t>(end + kLanes));
  weight.resize(static_cast<std::size_t>(end + kLanes));
  // Read at pixel x, 1/65536; the far edge is the last pixel but one with all but its whole weight.
  const double last = (width - 1) * 65536.0 - 1;
  const auto position = [&](int x) {
    return static_cast<std::int32_t>(std::clamp((u + x * du) * 65536.0 + 0.5, 0.0, last));
  };
  const int low = position(begin) >> 16, high = position(end - 1) >> 16;
  first = std::min(low, high);
  count = std::max(low, high) - first + 2;
  for (int x = begin; x < end + kLanes; ++x) {
    const auto i = static_cast<std::size_t>(x);
    const std::int32_t at = position(std::min(x, end - 1));
    column[i] = static_cast<U16>((at >> 16) - first);
    weight[i] = static_cast<U16>((at & 0xFFFF) >> 1);
  }
}

void paint_axis_row(Isa isa, const AxisRows& rows, const AxisColumns& columns, int begin, int end,
                    std::vector<std::uint16_t>& work, Pixel* row) {
  const std::size_t room = 3 * (static_cast<std::size_t>(columns.count) + 2 * kWindow);
  if (work.size() < room) work.resize(room);
#if BRIM_X86
  if (isa == Isa::Avx512) return paint_avx512(rows, columns, begin, end, work.data(), row);
  if (isa == Isa::Avx2) return paint_avx2(rows, columns, begin, end, work.data(), row);
#endif
  (void)isa;
  paint_portable(rows, columns, begin, end, work.data(), row);
}

}  // namespace brim::detail
