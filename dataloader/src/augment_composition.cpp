#include "augment_composition.h"

namespace brim::detail {

void Composition::plan(std::uint64_t key, Layout layout, std::span<const Source> sources, int size,
                       const DetectionAugmentation& augmentation, Flips flips) {
  size_ = size;
  Generator mosaic(key, Purpose::Mosaic), perspective(key, Purpose::Perspective);
  canvas_ = layout == Layout::Mosaic4   ? mosaic4(mosaic, sources, size)
            : layout == Layout::Mosaic9 ? mosaic9(mosaic, sources, size)
                                        : letterbox_canvas(sources[0], size);
  map_ = draw_perspective(perspective, augmentation, canvas_.size, size);
  if (flips.up_down) map_.map = Matrix3::mirror_y(size) * map_.map;
  if (flips.left_right) map_.map = Matrix3::mirror_x(size) * map_.map;

  collect_labels(canvas_, sources, labels_);
  if (augmentation.copy_paste > 0 && layout != Layout::Single) {
    Generator paste(key, Purpose::CopyPaste);
    copy_paste(paste, augmentation.copy_paste, canvas_, labels_);
  }
  const Matrix3 to_canvas = inverse(map_.map);
  const bool mirrored = labels_.pasted < labels_.boxes.size();
  const Matrix3 to_mirrored = Matrix3::mirror_x(canvas_.size.width) * to_canvas;
  for (std::size_t i = 0; i < static_cast<std::size_t>(canvas_.count); ++i) {
    const Tile& tile = canvas_.tiles[i];
    const ImageView pixels =
        at_least_2x2(sources[static_cast<std::size_t>(tile.source)].pixels, tiny_[i]);
    make_warp_tile(tile, pixels, to_canvas, size, tiles_[i]);
    if (mirrored) make_warp_tile(tile, pixels, to_mirrored, size, mirrored_[i]);
  }
  plan_pasted();
}

void Composition::plan_pasted() {
  pasted_count_ = 0;
  for (std::size_t i = labels_.pasted; i < labels_.boxes.size(); ++i) {
    if (pasted_.size() == pasted_count_) pasted_.emplace_back();
    Pasted& pasted = pasted_[pasted_count_];
    const CanvasBox& box = labels_.boxes[i];
    pasted.outline.clear();
    project(map_.map, labels_.points.data() + box.first_point, box.point_count, pasted.outline);
    if (pasted.outline.size() < 3) continue;
    pasted.box = bounds(pasted.outline);
    ++pasted_count_;
  }
}

Span Composition::paint_row(RowPainter& painter, int y, PixelRow& row) {
  row.resize(size_);
  row.fill(0, size_, kPadGrey);
  Span painted;
  for (std::size_t i = 0; i < static_cast<std::size_t>(canvas_.count); ++i) {
    painted = painted.hull(painter.paint(tiles_[i], y, {0, size_}, row));
  }
  return pasted_count_ > 0 ? painted.hull(paint_pasted(painter, y, row)) : painted;
}

Span Composition::paint_pasted(RowPainter& painter, int y, PixelRow& row) {
  Span painted;
  for (std::size_t p = 0; p < pasted_count_; ++p) {
    const Pasted& pasted = pasted_[p];
    if (y + 0.5 < pasted.box.y1 || y + 0.5 > pasted.box.y2) continue;
    spans_.clear();
    outline_spans(pasted.outline, y, size_, crossings_, spans_);
    for (const Span& span : spans_) {
      row.fill(span.begin, span.end, kPadGrey);
      for (std::size_t i = 0; i < static_cast<std::size_t>(canvas_.count); ++i) {
        painter.paint(mirrored_[i], y, span, row);
      }
      painted = painted.hull(span);
    }
  }
  return painted;
}

}  // namespace brim::detail
