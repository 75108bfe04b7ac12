#pragma once

#include <span>
#include <vector>

#include "augment_mosaic.h"

namespace brim::detail {

/// A label on the canvas: its box cut to what is seen there, and its outline where it has one.
struct CanvasBox {
  std::int32_t class_id = 0;
  RectD rect{};
  std::size_t first_point = 0, point_count = 0;  ///< in CanvasLabels::points
};

struct CanvasLabels {
  std::vector<CanvasBox> boxes;
  std::vector<Point> points;
  std::size_t pasted = 0;  ///< boxes from here on are mirrored copies (copy-paste)
  std::vector<Point> work[2];
};

/// Labels of all tiles, brought to the canvas, without what lies off it.
void collect_labels(const Canvas& canvas, std::span<const Source> sources, CanvasLabels& labels);

/// Copy-paste (Ghiasi et al. 2021) as YOLOv5 does it: a drawn `share` of the outlined objects is
/// copied to the mirrored place, unless the copy would hide 30% or more of any box there.
void copy_paste(Generator& generator, double share, const Canvas& canvas, CanvasLabels& labels);

/// Labels through `map` into a square sample of `size` pixels, cut to it and filtered by keep_box.
void project_labels(CanvasLabels& labels, const Perspective& map, int size,
                    std::vector<Target>& targets);

}  // namespace brim::detail
