#include "batch_norm_silu_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace brim::detail {
namespace {

// A block of rows of this many values stays in the first levels of the cache.
constexpr std::int64_t kBlockValues = 8192;
// Sums are kept per slice of rows; more slices than threads, but few enough to add up quickly.
constexpr std::int64_t kSlices = 16;

/// Several dense rows read as one, so that narrow layers fill the vectors too.
struct Folding {
  std::int64_t rows;      ///< wide rows
  std::int64_t fold;      ///< rows in a wide row
  std::int64_t channels;  ///< values in a wide row
};

template <class... Strides>
Folding fold_rows(std::int64_t rows, std::int64_t channels, Strides... strides) {
  std::int64_t fold = 1;
  if (((strides == channels) && ...))
    while (channels * fold < 64 && rows % (fold * 2) == 0) fold *= 2;
  return {rows / fold, fold, channels * fold};
}

std::vector<float> tiled(const float* values, std::int64_t channels, std::int64_t fold) {
  std::vector<float> result(static_cast<std::size_t>(channels * fold));
  for (std::int64_t k = 0; k < fold; ++k)
    std::copy_n(values, channels, result.begin() + k * channels);
  return result;
}

struct TiledAffine {
  std::vector<float> mean;
  std::vector<float> scale;
  std::vector<float> shift;
  TiledAffine(const ChannelAffine& affine, std::int64_t channels, std::int64_t fold)
      : mean(tiled(affine.mean, channels, fold)),
        scale(tiled(affine.scale, channels, fold)),
        shift(tiled(affine.shift, channels, fold)) {}
  ChannelAffine view() const { return {mean.data(), scale.data(), shift.data()}; }
};

template <class View>
View moved(View view, std::int64_t row) {
  if (view.data != nullptr) view.data += row * view.stride;
  return view;
}

/// Calls body(first row, rows) for blocks of the rows, in parallel. Each thread goes backwards:
/// what the sums before read last is still in its cache, and what is written last is what the next
/// operation reads first.
template <class Body>
void for_blocks(std::int64_t rows, std::int64_t channels, const Body& body) {
  const std::int64_t block = std::max<std::int64_t>(1, kBlockValues / channels);
  const std::int64_t blocks = (rows + block - 1) / block;
  at::parallel_for(0, blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = end; b-- > begin;) body(b * block, std::min(block, rows - b * block));
  });
}

/// Two sums per channel over all rows: body(first row, rows, out, out) fills those of one block.
template <class Body>
void sum_blocks(const Folding& folding, std::int64_t channels, std::vector<double>& first,
                std::vector<double>& second, const Body& body) {
  const std::int64_t wide = folding.channels;
  const std::int64_t block = std::max<std::int64_t>(1, kBlockValues / wide);
  const std::int64_t blocks = (folding.rows + block - 1) / block;
  const std::int64_t slices = std::min(kSlices, blocks);
  std::vector<double> sums(static_cast<std::size_t>(slices * 2 * wide), 0.0);
  at::parallel_for(0, slices, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> part(static_cast<std::size_t>(2 * wide));
    for (std::int64_t s = begin; s < end; ++s) {
      double* total = sums.data() + s * 2 * wide;
      for (std::int64_t b = s * blocks / slices; b < (s + 1) * blocks / slices; ++b) {
        body(b * block, std::min(block, folding.rows - b * block), part.data(), part.data() + wide);
        for (std::int64_t i = 0; i < 2 * wide; ++i) total[i] += part[static_cast<std::size_t>(i)];
      }
    }
  });
  first.assign(static_cast<std::size_t>(channels), 0.0);
  second.assign(static_cast<std::size_t>(channels), 0.0);
  for (std::int64_t s = 0; s < slices; ++s)
    for (std::int64_t i = 0; i < wide; ++i) {
      const auto c = static_cast<std::size_t>(i % channels);
      first[c] += sums[static_cast<std::size_t>(s * 2 * wide + i)];
      second[c] += sums[static_cast<std::size_t>((s * 2 + 1) * wide + i)];
    }
}

}  // namespace

RowView row_view(const at::Tensor& x) {
  const std::int64_t n = x.size(0);
  const std::int64_t channels = x.size(1);
  const std::int64_t height = x.size(2);
  const std::int64_t width = x.size(3);
  if (x.numel() == 0 || (channels > 1 && x.stride(1) != 1)) return {};
  // The stride of the innermost dimension that has more than one step.
  const std::int64_t stride = width > 1    ? x.stride(3)
                              : height > 1 ? x.stride(2)
                              : n > 1      ? x.stride(0)
                                           : channels;
  if (stride < channels) return {};
  if (width > 1 && height > 1 && x.stride(2) != width * stride) return {};
  if (n > 1 && (width > 1 || height > 1) && x.stride(0) != height * width * stride) return {};
  return {n * height * width, channels, stride};
}

void row_moments(ConstRows x, std::int64_t rows, std::int64_t channels, std::vector<double>& mean,
                 std::vector<double>& variance) {
  const Folding folding = fold_rows(rows, channels, x.stride);
  const ConstRows wide{x.data, x.stride * folding.fold};
  const BatchNormSiluKernels& kernels = *batch_norm_silu_kernels(folding.channels);
  // Sums of differences to the first row: no digits are lost where the mean is far from zero.
  const std::vector<float> origin = tiled(x.data, channels, folding.fold);
  sum_blocks(folding, channels, mean, variance,
             [&](std::int64_t row, std::int64_t count, float* sum, float* squares) {
               kernels.moments(moved(wide, row), count, folding.channels, origin.data(), sum,
                               squares);
             });
  const auto n = static_cast<double>(rows);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    const double shifted = mean[c] / n;
    variance[c] = std::max(0.0, variance[c] / n - shifted * shifted);
    mean[c] = shifted + origin[c];
  }
}

void rows_forward(ConstRows x, ConstRows residual, std::int64_t rows, std::int64_t channels,
                  const ChannelAffine& affine, Rows y) {
  const Folding folding = residual.data != nullptr
                              ? fold_rows(rows, channels, x.stride, y.stride, residual.stride)
                              : fold_rows(rows, channels, x.stride, y.stride);
  const TiledAffine values(affine, channels, folding.fold);
  const BatchNormSiluKernels& kernels = *batch_norm_silu_kernels(folding.channels);
  x.stride *= folding.fold;
  residual.stride *= folding.fold;
  y.stride *= folding.fold;
  for_blocks(folding.rows, folding.channels, [&](std::int64_t row, std::int64_t count) {
    kernels.forward(moved(x, row), moved(residual, row), count, folding.channels, values.view(),
                    moved(y, row));
  });
}

namespace {

/// Slope and offset of dx = dz * scale + (x - mean) * slope + offset, from the two sums.
void gradient_line(const std::vector<double>& sum, const std::vector<double>& product,
                   std::int64_t rows, const ChannelAffine& affine, const float* invstd,
                   std::vector<float>& slope, std::vector<float>& offset) {
  for (std::size_t c = 0; c < slope.size(); ++c) {
    const double scale = affine.scale[c] / static_cast<double>(rows);
    slope[c] = static_cast<float>(-scale * product[c] * invstd[c] * invstd[c]);
    offset[c] = static_cast<float>(-scale * sum[c]);
  }
}

}  // namespace

BackwardSums rows_backward_sums(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                                const ChannelAffine& affine) {
  const Folding folding = fold_rows(rows, channels, x.stride, dy.stride);
  const TiledAffine values(affine, channels, folding.fold);
  const BatchNormSiluKernels& kernels = *batch_norm_silu_kernels(folding.channels);
  x.stride *= folding.fold;
  dy.stride *= folding.fold;
  BackwardSums sums;
  sum_blocks(folding, channels, sums.sum, sums.product,
             [&](std::int64_t row, std::int64_t count, float* s, float* p) {
               kernels.backward_sums(moved(x, row), moved(dy, row), count, folding.channels,
                                     values.view(), s, p);
             });
  return sums;
}

void rows_backward(ConstRows x, ConstRows dy, std::int64_t rows, std::int64_t channels,
                   const ChannelAffine& affine, const float* invstd, const BackwardSums& sums,
                   std::int64_t counted, Rows dx) {
  const Folding folding = fold_rows(rows, channels, x.stride, dy.stride, dx.stride);
  const TiledAffine values(affine, channels, folding.fold);
  const BatchNormSiluKernels& kernels = *batch_norm_silu_kernels(folding.channels);
  x.stride *= folding.fold;
  dy.stride *= folding.fold;
  dx.stride *= folding.fold;
  std::vector<float> slope(static_cast<std::size_t>(channels), 0.0F);
  std::vector<float> offset(static_cast<std::size_t>(channels), 0.0F);
  if (counted > 0) gradient_line(sums.sum, sums.product, counted, affine, invstd, slope, offset);
  const std::vector<float> wide_slope = tiled(slope.data(), channels, folding.fold);
  const std::vector<float> wide_offset = tiled(offset.data(), channels, folding.fold);
  for_blocks(folding.rows, folding.channels, [&](std::int64_t row, std::int64_t count) {
    kernels.backward(moved(x, row), moved(dy, row), count, folding.channels, values.view(),
                     wide_slope.data(), wide_offset.data(), moved(dx, row));
  });
}

}  // namespace brim::detail
