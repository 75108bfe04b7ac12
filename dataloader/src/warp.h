#pragma once

#include <array>
#include <vector>

#include "augment_mosaic.h"
#include "warp_axis.h"
#include "warp_kernels.h"

namespace brim::detail {

/// One image of a composition, ready to be painted: where each output pixel reads it, and where it
/// ends. Bounds are in source pixels (u low, u high, v low, v high; pixel centres at integers).
struct WarpTile {
  ImageView pixels{};
  Matrix3 to_source{};            ///< output pixel index to source pixel index
  std::array<double, 4> outer{};  ///< nothing is painted beyond
  std::array<double, 4> inner{};  ///< fully covered within; between the two it fades into grey
  AxisColumns columns{};          ///< usable where the map neither turns nor shears
  /// Where columns are usable: output pixels of every row within `outer` and within `inner`.
  std::array<int, 2> painted{}, covered{};
};

/// Makes `warp` the map of `tile`, of which `pixels` are the image, into a sample `width` wide,
/// given the way from sample to canvas.
void make_warp_tile(const Tile& tile, const ImageView& pixels, const Matrix3& sample_to_canvas,
                    int width, WarpTile& warp);

/// Paints rows of output straight from sources. Holds the working memory of one thread.
class RowPainter {
 public:
  explicit RowPainter(Isa isa = best_isa()) : kernels_(warp_kernels(isa)), isa_(isa) {}
  /// Paints the part of `tile` that falls on pixels [begin, end) of output row `y`. `row` has room
  /// for 8 more pixels than the output is wide; pixels of the row right of `end` may only be
  /// touched when they are given back afterwards, which this does.
  void paint(const WarpTile& tile, int y, int begin, int end, Pixel* row);
  const WarpKernels& kernels() const { return kernels_; }
  Isa isa() const { return isa_; }

 private:
  void paint_axis(const WarpTile& tile, int y, int begin, int end, Pixel* row);
  void sample(const WarpTile& tile, const Ray& ray, int begin, int end, Pixel* row);
  void sample_axis(const WarpTile& tile, const Ray& ray, int begin, int end, Pixel* row);

  const WarpKernels& kernels_;
  Isa isa_;
  Coordinates coordinates_;
  std::vector<std::uint16_t> blended_;
};

/// `pixels`, or where they are fewer than 2 wide or high a copy in `store` with the edge repeated
/// (the sampler needs two taps each way).
ImageView at_least_2x2(const ImageView& pixels, std::vector<std::uint8_t>& store);

/// Adds to `spans` the pixels of row `y` whose centres lie within `outline` (even-odd), as
/// begin, end pairs limited to [0, width). `crossings` is scratch.
void outline_spans(const std::vector<Point>& outline, int y, int width,
                   std::vector<double>& crossings, std::vector<std::array<int, 2>>& spans);

}  // namespace brim::detail
