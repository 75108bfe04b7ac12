#pragma once

#include <cstdint>
#include <vector>

#include "augment_composition.h"
#include "warp_kernels.h"

namespace brim::detail {

/// Taps of one output position: `count` (even; the last may weigh nothing) weights of 1/65536.
struct ResampleTaps {
  int first = 0, count = 0;
  std::size_t weights = 0;  ///< index of the first
};

/// Resizes a rectangle of an image with a triangle filter that widens when reducing (Heckbert's
/// separable resampling; the "antialias" bilinear of torchvision and Pillow). Rows come one by one.
/// One per thread; keeps its memory.
class Resampler {
 public:
  explicit Resampler(Isa isa = best_isa()) : isa_(isa) {}
  /// Prepares for `rect` (continuous pixel coordinates of `pixels`) to `out`. Only pixels that
  /// `rect` touches are read.
  void plan(const ImageView& pixels, const RectD& rect, Size out, Flips flips);
  /// Row `y` of the result.
  void row(int y, Pixel* out);
  Isa isa() const { return isa_; }

 private:
  struct Axis {
    std::vector<ResampleTaps> taps;
    std::vector<std::uint16_t> weights;
  };
  static void plan_axis(double low, double high, int limit, int count, bool mirrored, Axis& axis);

  Isa isa_;
  ImageView pixels_{};
  Axis columns_, rows_;
  int first_column_ = 0, column_count_ = 0;
  std::vector<std::uint16_t> sum_;             ///< a blended source row, 8.8 fixed point, RGB
  std::vector<std::uint16_t> column_weights_;  ///< columns_.weights, four times each
};

}  // namespace brim::detail
