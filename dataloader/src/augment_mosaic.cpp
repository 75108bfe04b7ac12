#include "augment_mosaic.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace brim::detail {
namespace {

void place(Canvas& canvas, Tile tile) {
  tile.visible = intersect(
      {tile.x, tile.y, tile.x + tile.width, tile.y + tile.height},
      {0, 0, static_cast<double>(canvas.size.width), static_cast<double>(canvas.size.height)});
  if (!tile.visible.empty()) canvas.tiles[static_cast<std::size_t>(canvas.count++)] = tile;
}

/// 0 .. N-1 in a drawn order (Fisher and Yates).
template <std::size_t N>
std::array<int, N> draw_order(Generator& generator) {
  std::array<int, N> order;
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = N - 1; i > 0; --i) std::swap(order[i], order[generator.below(i + 1)]);
  return order;
}

Size fit(const Source& source, int size) {
  return fit_longest({source.pixels.width, source.pixels.height}, size);
}

}  // namespace

Size fit_longest(Size image, int size) {
  const int longest = std::max(image.width, image.height);
  if (longest == size) return image;
  const auto scaled = [&](int side) {
    return std::max(1, static_cast<int>(std::lround(static_cast<double>(side) * size / longest)));
  };
  return {scaled(image.width), scaled(image.height)};
}

Canvas mosaic4(Generator& generator, std::span<const Source> sources, int size) {
  Canvas canvas{.size = {2 * size, 2 * size}};
  const double xc = std::floor(generator.uniform(0.5 * size, 1.5 * size));
  const double yc = std::floor(generator.uniform(0.5 * size, 1.5 * size));
  const auto order = draw_order<4>(generator);
  for (int i = 0; i < 4; ++i) {
    const int source = order[static_cast<std::size_t>(i)];
    const Size shown = fit(sources[static_cast<std::size_t>(source)], size);
    const bool right = i % 2 == 1, below = i >= 2;
    Tile tile{.source = source,
              .x = right ? xc : xc - shown.width,
              .y = below ? yc : yc - shown.height,
              .width = static_cast<double>(shown.width),
              .height = static_cast<double>(shown.height)};
    (right ? tile.left : tile.right) = Edge::Seam;
    (below ? tile.top : tile.bottom) = Edge::Seam;
    place(canvas, tile);
  }
  return canvas;
}

Canvas mosaic9(Generator& generator, std::span<const Source> sources, int size) {
  Canvas canvas{.size = {2 * size, 2 * size}};
  const double x0 = std::floor(generator.uniform(0, size));
  const double y0 = std::floor(generator.uniform(0, size));
  const auto order = draw_order<9>(generator);
  const double s = size;
  Size first{}, last{};
  for (int i = 0; i < 9; ++i) {
    const int source = order[static_cast<std::size_t>(i)];
    const Size shown = fit(sources[static_cast<std::size_t>(source)], size);
    const double w = shown.width, h = shown.height;
    if (i == 0) first = shown;
    const double right = s + first.width, bottom = s + first.height;
    // The spiral: centre, then clockwise from above it. Corners start where their neighbour ended.
    const std::array<Point, 9> corner{{{s, s},
                                       {s, s - h},
                                       {s + last.width, s - h},
                                       {right, s},
                                       {right, s + last.height},
                                       {right - w, bottom},
                                       {right - last.width - w, bottom},
                                       {s - w, bottom - h},
                                       {s - w, bottom - last.height - h}}};
    const Point at = corner[static_cast<std::size_t>(i)];
    place(canvas, {.source = source,
                   .x = at.x - x0,
                   .y = at.y - y0,
                   .width = w,
                   .height = h,
                   .left = Edge::Seam,
                   .top = Edge::Seam,
                   .right = Edge::Seam,
                   .bottom = Edge::Seam});
    last = shown;
  }
  return canvas;
}

Canvas letterbox_canvas(const Source& source, int size) {
  Canvas canvas{.size = {size, size}};
  const LetterboxGeometry g =
      letterbox_geometry({source.pixels.width, source.pixels.height}, canvas.size);
  place(canvas, {.source = 0,
                 .x = static_cast<double>(g.left),
                 .y = static_cast<double>(g.top),
                 .width = static_cast<double>(g.resized.width),
                 .height = static_cast<double>(g.resized.height)});
  return canvas;
}

}  // namespace brim::detail
