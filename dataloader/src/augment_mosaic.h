#pragma once

#include <array>
#include <span>
#include <vector>

#include "augment_geometry.h"
#include "brim/dataloader/transform.h"

namespace brim::detail {

/// How an image's edge meets what lies beside it on the canvas.
enum class Edge : std::uint8_t {
  Grey,  ///< fades into the grey over one pixel, as bilinear sampling of the canvas would
  Seam,  ///< another image follows: cut between the two pixels
};

/// An image's place on the canvas. Whole canvas pixels.
struct Tile {
  int source = 0;
  double x = 0, y = 0, width = 0, height = 0;  ///< of the whole image, may reach off the canvas
  RectD visible{};                             ///< the part that lies on the canvas
  Edge left = Edge::Grey, top = Edge::Grey, right = Edge::Grey, bottom = Edge::Grey;
};

/// Images laid out before the perspective; no two of them overlap.
struct Canvas {
  Size size{};
  std::array<Tile, 9> tiles{};
  int count = 0;
};

/// An image's size when its longer side is brought to `size`.
Size fit_longest(Size image, int size);

/// Four images around a drawn centre of a canvas of twice `size`, in a drawn order.
Canvas mosaic4(Generator& generator, std::span<const Source> sources, int size);
/// Nine images in a spiral, of which a drawn window of twice `size` is the canvas.
Canvas mosaic9(Generator& generator, std::span<const Source> sources, int size);
/// One image centred on a canvas of `size`.
Canvas letterbox_canvas(const Source& source, int size);

}  // namespace brim::detail
