#pragma once

#include <cstdint>

#include "augment_simd.h"
#include "brim/dataloader/image.h"
#include "pixel_row.h"

namespace brim::detail {

/// One pixel: R in the low byte, then G, B; the high byte is 0.
using Pixel = std::uint32_t;

/// Most pixels a kernel is called for at once; coordinate arrays are this long.
inline constexpr int kBlock = 256;

/// Source coordinates of `kBlock` output pixels, 16.16 fixed point, pixel centres at integers.
struct Coordinates {
  alignas(64) std::int32_t u[kBlock];
  alignas(64) std::int32_t v[kBlock];
};

/// Homogeneous source coordinates along an output row: the first pixel's and the step.
struct Ray {
  double u = 0, du = 0, v = 0, dv = 0, w = 1, dw = 0;
};

/// Row kernels of one instruction set. Counts are at most kBlock for `sample`, any for the rest.
struct WarpKernels {
  /// at[i] = start + i * step (both in 1/65536 pixel), for `count` rounded up to 8.
  void (*affine)(Coordinates& at, std::int32_t u, std::int32_t u_step, std::int32_t v,
                 std::int32_t v_step, int count);
  /// at[i] = (u + i du) / (w + i dw) and the same for v, pixels; results above -16.
  void (*projective)(Coordinates& at, const Ray& ray, int count);
  /// Bilinear samples (7-bit weights) of `image` (at least 2x2) at `at`; beyond the image the edge
  /// is repeated. Reads nothing outside the image. Writes up to 7 pixels past `count`. What lies
  /// `ahead` bytes from the pixels read is fetched into the cache on the way.
  void (*sample)(const ImageView& image, const Coordinates& at, int count, std::ptrdiff_t ahead,
                 Pixel* out);
  /// Writes pixels [x, x + count) of `row`.
  void (*split)(const Pixel* pixels, int count, PixelRow& row, int x);
  /// Pixels [begin, end): row = (row * weight + other * (256 - weight) + 128) / 256 per channel.
  void (*blend)(PixelRow& row, const PixelRow& other, int weight, int begin, int end);
  /// Writes 3 * count bytes of R, G, B.
  void (*pack)(const Pixel* row, int count, std::uint8_t* out);
};

const WarpKernels& warp_kernels(Isa isa);

}  // namespace brim::detail
