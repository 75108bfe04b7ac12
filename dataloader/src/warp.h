#pragma once

#include <array>
#include <vector>

#include "augment_mosaic.h"
#include "plane_filter.h"
#include "warp_kernels.h"

namespace brim::detail {

/// One image of a composition, ready to be painted: where each output pixel reads it, and where it
/// ends. Bounds are in source pixels (u low, u high, v low, v high; pixel centres at integers).
struct WarpTile {
  ImageView pixels{};
  Matrix3 to_source{};            ///< output pixel index to source pixel index
  std::array<double, 4> outer{};  ///< nothing is painted beyond
  std::array<double, 4> inner{};  ///< fully covered within; between the two it fades into grey
  /// The map neither turns nor shears: all rows read the same columns, those of `columns`, which
  /// end where the map meets `outer`.
  bool upright = false;
  ColumnFilter columns{};
  std::array<int, 2> covered{};  ///< output pixels of every row within `inner`, if upright
};

/// Makes `warp` the map of `tile`, of which `pixels` are the image, into a sample `width` wide,
/// given the way from sample to canvas.
void make_warp_tile(const Tile& tile, const ImageView& pixels, const Matrix3& sample_to_canvas,
                    int width, WarpTile& warp);

/// Output pixels [begin, end) of a row.
struct Span {
  int begin = 0, end = 0;
  bool empty() const { return begin >= end; }
  /// The smallest span that holds both.
  Span hull(const Span& other) const;
};

/// Paints rows of output straight from sources. Holds the working memory of one thread.
class RowPainter {
 public:
  explicit RowPainter(Isa isa = best_isa()) : kernels_(warp_kernels(isa)), isa_(isa) {}
  /// Paints the part of `tile` that falls on pixels `within` of output row `y`; no other pixel of
  /// `row` changes. Returns what was painted.
  Span paint(const WarpTile& tile, int y, Span within, PixelRow& row);
  const WarpKernels& kernels() const { return kernels_; }
  Isa isa() const { return isa_; }

 private:
  Span paint_upright(const WarpTile& tile, int y, Span within, PixelRow& row);
  void sample(const WarpTile& tile, const Ray& ray, Span span, PixelRow& row);
  void sample_upright(const WarpTile& tile, const Ray& ray, PixelRow& row);

  const WarpKernels& kernels_;
  Isa isa_;
  Coordinates coordinates_;
  std::array<Pixel, kBlock + 8> sampled_;  ///< samples come in eights
  BlendedRow blended_;
  PixelRow whole_;  ///< all of a tile's row where only a part is wanted
};

/// `pixels`, or where they are fewer than 2 wide or high a copy in `store` with the edge repeated
/// (the sampler needs two taps each way).
ImageView at_least_2x2(const ImageView& pixels, std::vector<std::uint8_t>& store);

/// Adds to `spans` the pixels of row `y` whose centres lie within `outline` (even-odd), as
/// begin, end pairs limited to [0, width). `crossings` is scratch.
void outline_spans(const std::vector<Point>& outline, int y, int width,
                   std::vector<double>& crossings, std::vector<Span>& spans);

}  // namespace brim::detail
