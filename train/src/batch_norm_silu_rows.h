#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "batch_norm_silu_kernels.h"

namespace brim::detail {

/// A [N, C, H, W] tensor as N*H*W rows of C values; `rows` is 0 where its strides do not allow it.
struct RowView {
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  std::int64_t stride = 0;
};
RowView row_view(const at::Tensor& x);

/// Mean and biased variance of each channel. The sums are taken over fixed blocks of rows and added
/// in order, so that the result does not depend on the number of threads.
void row_moments(ConstRows x, std::int64_t rows, std::int64_t channels, std::vector<double>& mean,
                 std::vector<double>& variance);

/// y = silu((x - mean) * scale + shift) + residual, in parallel.
void rows_forward(ConstRows x, ConstRows residual, std::int64_t rows, std::int64_t channels,
                  const ChannelAffine& affine, Rows y);

/// With dz = dy * silu'(z), per channel: sum of dz, sum of dz * (x - mean).
struct BackwardSums {
  std::vector<double> sum{};
  std::vector<double> product{};
};
BackwardSums rows_backward_sums(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                                const ChannelAffine& affine);

/// dx from the sums over all `counted` rows that the statistics were taken from; 0: they are
/// constant (evaluation mode), so that dx = dz * scale.
void rows_backward(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                   const ChannelAffine& affine, const float* invstd, const BackwardSums& sums,
                   std::int64_t counted, Rows dx);

}  // namespace brim::detail
