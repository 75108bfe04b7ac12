#pragma once

#include <cstdint>

// Row kernels of fused batch norm + SiLU, compiled once per instruction set. No LibTorch here: the
// files that include this are built with other compiler flags than the rest.
namespace brim::detail {

/// A matrix of floats: `rows` lines of `channels` values, `stride` floats apart.
struct ConstRows {
  const float* data = nullptr;
  std::int64_t stride = 0;
};
struct Rows {
  float* data = nullptr;
  std::int64_t stride = 0;
};

/// Per-channel values of z = (x - mean) * scale + shift; scale = weight / sqrt(var + eps).
struct ChannelAffine {
  const float* mean = nullptr;
  const float* scale = nullptr;
  const float* shift = nullptr;
};

struct BatchNormSiluKernels {
  /// sum[c] = sum over rows of (x - origin), squares[c] = sum of (x - origin)^2.
  void (*moments)(ConstRows x, std::int64_t rows, std::int64_t channels, const float* origin,
                  float* sum, float* squares);
  /// y = silu(z) (+ residual where its data is not null).
  void (*forward)(ConstRows x, ConstRows residual, std::int64_t rows, std::int64_t channels,
                  const ChannelAffine& affine, Rows y);
  /// With dz = dy * silu'(z): sum[c] = sum of dz, product[c] = sum of dz * (x - mean).
  void (*backward_sums)(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                        const ChannelAffine& affine, float* sum, float* product);
  /// dx = dz * scale + (x - mean) * slope + offset.
  void (*backward)(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                   const ChannelAffine& affine, const float* slope, const float* offset, Rows dx);
};

extern const BatchNormSiluKernels kBatchNormSiluBase;
#ifdef BRIM_X86_KERNELS
extern const BatchNormSiluKernels kBatchNormSiluAvx2;
extern const BatchNormSiluKernels kBatchNormSiluAvx512;
#endif

/// The fastest kernels this processor runs for rows of `channels` values; null when `channels` is
/// no multiple of the narrowest vector (4).
const BatchNormSiluKernels* batch_norm_silu_kernels(std::int64_t channels);

}  // namespace brim::detail
