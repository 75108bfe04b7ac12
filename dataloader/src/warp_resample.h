#pragma once

#include <cstdint>
#include <vector>

#include "augment_composition.h"
#include "plane_filter.h"

namespace brim::detail {

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
  void row(int y, PixelRow& out);
  Isa isa() const { return isa_; }

 private:
  Isa isa_;
  ImageView pixels_{};
  ColumnFilter columns_;
  int row_taps_ = 0, last_row_ = 0;         ///< of the source; no row beyond is read
  std::vector<std::int32_t> first_rows_;    ///< of each result row
  std::vector<std::uint8_t> row_weights_;   ///< row_taps_ of each
  std::vector<const std::uint8_t*> taken_;  ///< source rows of the row in work
  std::vector<double> shares_;              ///< scratch of plan()
  BlendedRow blended_;
};

}  // namespace brim::detail
