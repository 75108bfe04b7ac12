#pragma once

#include "batch_norm_silu_kernels.h"

// Body of the kernels. The including file defines BRIM_LANES (floats per vector) and is compiled
// for the matching instruction set; everything is in an unnamed namespace, so that no function
// built with wide instructions can be picked by the linker for the rest of the program.
namespace brim::detail {
namespace {

constexpr std::int64_t kLanes = BRIM_LANES;
typedef float Vec __attribute__((vector_size(BRIM_LANES * 4)));
typedef std::int32_t IntVec __attribute__((vector_size(BRIM_LANES * 4)));

inline Vec load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, Vec v) {
  __builtin_memcpy(to, &v, sizeof v);
}

/// e^x to 2 units in the last place; x is clamped to [-87, 88].
inline Vec exponential(Vec x) {
  const Vec low = Vec{} - 87.0F;
  const Vec high = Vec{} + 88.0F;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Vec biased = x * 1.44269504088896341F + magic;
  const Vec n = biased - magic;
  const Vec r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Vec p = r * (1.0F / 720) + (1.0F / 120);
  p = p * r + (1.0F / 24);
  p = p * r + (1.0F / 6);
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  IntVec bits;
  IntVec power;
  __builtin_memcpy(&bits, &p, sizeof p);
  __builtin_memcpy(&power, &biased, sizeof p);
  bits += power << 23;
  __builtin_memcpy(&p, &bits, sizeof p);
  return p;
}

inline Vec sigmoid(Vec z) {
  return 1.0F / (1.0F + exponential(-z));
}

inline Vec silu_gradient(Vec z, Vec dy) {
  const Vec s = sigmoid(z);
  return dy * (s * (1.0F + z * (1.0F - s)));
}

/// Calls `body.template run<T>(c)` for runs of T vectors that cover `channels` (multiple of the
/// lanes).
template <int Wide, class Body>
inline void for_channels(std::int64_t channels, const Body& body) {
  std::int64_t c = 0;
  for (; c + Wide * kLanes <= channels; c += Wide * kLanes) body.template run<Wide>(c);
  for (; c < channels; c += kLanes) body.template run<1>(c);
}

struct Moments {
  ConstRows x;
  std::int64_t rows;
  const float* origin;
  float* sum;
  float* squares;
  template <int T>
  void run(std::int64_t c) const {
    Vec o[T];
    Vec s[T] = {};
    Vec q[T] = {};
    for (int t = 0; t < T; ++t) o[t] = load(origin + c + t * kLanes);
    const float* p = x.data + c;
    for (std::int64_t r = 0; r < rows; ++r, p += x.stride)
      for (int t = 0; t < T; ++t) {
        const Vec d = load(p + t * kLanes) - o[t];
        s[t] += d;
        q[t] += d * d;
      }
    for (int t = 0; t < T; ++t) {
      store(sum + c + t * kLanes, s[t]);
      store(squares + c + t * kLanes, q[t]);
    }
  }
};

template <bool kResidual>
struct Forward {
  ConstRows x;
  ConstRows residual;
  std::int64_t rows;
  ChannelAffine affine;
  Rows y;
  template <int T>
  void run(std::int64_t c) const {
    Vec mean[T];
    Vec scale[T];
    Vec shift[T];
    for (int t = 0; t < T; ++t) {
      mean[t] = load(affine.mean + c + t * kLanes);
      scale[t] = load(affine.scale + c + t * kLanes);
      shift[t] = load(affine.shift + c + t * kLanes);
    }
    const float* p = x.data + c;
    const float* a = kResidual ? residual.data + c : nullptr;
    float* out = y.data + c;
    for (std::int64_t r = 0; r < rows; ++r, p += x.stride, out += y.stride) {
      for (int t = 0; t < T; ++t) {
        const Vec z = (load(p + t * kLanes) - mean[t]) * scale[t] + shift[t];
        Vec v = z * sigmoid(z);
        if constexpr (kResidual) v += load(a + t * kLanes);
        store(out + t * kLanes, v);
      }
      if constexpr (kResidual) a += residual.stride;
    }
  }
};

struct BackwardSums {
  ConstRows x;
  ConstRows dy;
  std::int64_t rows;
  ChannelAffine affine;
  float* sum;
  float* product;
  template <int T>
  void run(std::int64_t c) const {
    Vec mean[T];
    Vec scale[T];
    Vec shift[T];
    Vec s[T] = {};
    Vec q[T] = {};
    for (int t = 0; t < T; ++t) {
      mean[t] = load(affine.mean + c + t * kLanes);
      scale[t] = load(affine.scale + c + t * kLanes);
      shift[t] = load(affine.shift + c + t * kLanes);
    }
    const float* p = x.data + c;
    const float* g = dy.data + c;
    for (std::int64_t r = 0; r < rows; ++r, p += x.stride, g += dy.stride)
      for (int t = 0; t < T; ++t) {
        const Vec d = load(p + t * kLanes) - mean[t];
        const Vec dz = silu_gradient(d * scale[t] + shift[t], load(g + t * kLanes));
        s[t] += dz;
        q[t] += dz * d;
      }
    for (int t = 0; t < T; ++t) {
      store(sum + c + t * kLanes, s[t]);
      store(product + c + t * kLanes, q[t]);
    }
  }
};

struct Backward {
  ConstRows x;
  ConstRows dy;
  std::int64_t rows;
  ChannelAffine affine;
  const float* slope;
  const float* offset;
  Rows dx;
  template <int T>
  void run(std::int64_t c) const {
    Vec mean[T];
    Vec scale[T];
    Vec shift[T];
    Vec k1[T];
    Vec k0[T];
    for (int t = 0; t < T; ++t) {
      mean[t] = load(affine.mean + c + t * kLanes);
      scale[t] = load(affine.scale + c + t * kLanes);
      shift[t] = load(affine.shift + c + t * kLanes);
      k1[t] = load(slope + c + t * kLanes);
      k0[t] = load(offset + c + t * kLanes);
    }
    const float* p = x.data + c;
    const float* g = dy.data + c;
    float* out = dx.data + c;
    for (std::int64_t r = 0; r < rows; ++r, p += x.stride, g += dy.stride, out += dx.stride)
      for (int t = 0; t < T; ++t) {
        const Vec d = load(p + t * kLanes) - mean[t];
        const Vec dz = silu_gradient(d * scale[t] + shift[t], load(g + t * kLanes));
        store(out + t * kLanes, dz * scale[t] + (d * k1[t] + k0[t]));
      }
  }
};

void moments(ConstRows x, std::int64_t rows, std::int64_t channels, const float* origin, float* sum,
             float* squares) {
  for_channels<4>(channels, Moments{x, rows, origin, sum, squares});
}

void forward(ConstRows x, ConstRows residual, std::int64_t rows, std::int64_t channels,
             const ChannelAffine& affine, Rows y) {
  if (residual.data != nullptr)
    for_channels<2>(channels, Forward<true>{x, residual, rows, affine, y});
  else
    for_channels<2>(channels, Forward<false>{x, residual, rows, affine, y});
}

void backward_sums(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                   const ChannelAffine& affine, float* sum, float* product) {
  for_channels<2>(channels, BackwardSums{x, dy, rows, affine, sum, product});
}

void backward(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
              const ChannelAffine& affine, const float* slope, const float* offset, Rows dx) {
  for_channels<2>(channels, Backward{x, dy, rows, affine, slope, offset, dx});
}

constexpr BatchNormSiluKernels kKernels{moments, forward, backward_sums, backward};

}  // namespace
}  // namespace brim::detail
