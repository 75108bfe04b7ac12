#pragma once

#include <array>
#include <span>
#include <vector>

#include "augment_labels.h"
#include "warp.h"

namespace brim::detail {

/// Which layout a composition has and how many sources that takes.
enum class Layout : std::uint8_t { Single = 1, Mosaic4 = 4, Mosaic9 = 9 };

struct Flips {
  bool up_down = false, left_right = false;
};

/// One picture in the making: images on a canvas, the map from there into the sample, and labels.
/// Planned once per sample, then painted row by row; keeps its memory between samples.
class Composition {
 public:
  /// Lays out `sources` and draws geometry from `key`; flips are part of the map.
  void plan(std::uint64_t key, Layout layout, std::span<const Source> sources, int size,
            const DetectionAugmentation& augmentation, Flips flips);
  /// Paints all of row `y`, `size` pixels. Returns the part of it beside which all is grey.
  Span paint_row(RowPainter& painter, int y, PixelRow& row);
  /// Adds the labels that are seen in the sample.
  void add_targets(std::vector<Target>& targets) { project_labels(labels_, map_, size_, targets); }

 private:
  struct Pasted {
    std::vector<Point> outline;
    RectD box;
  };
  void plan_pasted();
  Span paint_pasted(RowPainter& painter, int y, PixelRow& row);

  int size_ = 0;
  Canvas canvas_;
  Perspective map_;
  std::array<WarpTile, 9> tiles_, mirrored_;
  std::array<std::vector<std::uint8_t>, 9> tiny_;
  CanvasLabels labels_;
  std::vector<Pasted> pasted_;
  std::size_t pasted_count_ = 0;
  std::vector<double> crossings_;
  std::vector<Span> spans_;
};

}  // namespace brim::detail
