#include "augment_labels.h"

#include <algorithm>
#include <cmath>

namespace brim::detail {
namespace {

constexpr double kMaxHidden = 0.30;

double area(const RectD& rect) {
  return rect.empty() ? 0.0 : (rect.x2 - rect.x1) * (rect.y2 - rect.y1);
}

/// The part of `tile` that an outline may show: where `seen` was cut from `whole`, it is cut too.
RectD outline_limit(const RectD& visible, const RectD& whole, const RectD& seen) {
  return {seen.x1 > whole.x1 ? seen.x1 : visible.x1, seen.y1 > whole.y1 ? seen.y1 : visible.y1,
          seen.x2 < whole.x2 ? seen.x2 : visible.x2, seen.y2 < whole.y2 ? seen.y2 : visible.y2};
}

/// Appends the outline of box `index`, brought to the canvas and cut to `limit`. False: the box has
/// an outline of which nothing is left.
bool add_outline(const Tile& tile, const Record& record, std::int32_t index, const RectD& limit,
                 CanvasLabels& labels, CanvasBox& box) {
  for (const Polygon& polygon : record.polygons) {
    if (polygon.box != index || polygon.points.size() < 6) continue;
    std::vector<Point>& outline = labels.work[0];
    outline.clear();
    for (std::size_t i = 0; i + 1 < polygon.points.size(); i += 2) {
      outline.push_back(
          {tile.x + polygon.points[i] * tile.width, tile.y + polygon.points[i + 1] * tile.height});
    }
    clip_polygon(outline, limit, labels.work[1]);
    if (outline.size() < 3) return false;
    box.first_point = labels.points.size();
    box.point_count = outline.size();
    labels.points.insert(labels.points.end(), outline.begin(), outline.end());
    return true;
  }
  return true;
}

void collect_tile(const Canvas& canvas, int index, const Record& record, CanvasLabels& labels) {
  const Tile& tile = canvas.tiles[static_cast<std::size_t>(index)];
  for (std::size_t i = 0; i < record.boxes.size(); ++i) {
    const Box& label = record.boxes[i];
    const double half_w = label.width / 2.0, half_h = label.height / 2.0;
    const RectD whole{
        tile.x + (label.cx - half_w) * tile.width, tile.y + (label.cy - half_h) * tile.height,
        tile.x + (label.cx + half_w) * tile.width, tile.y + (label.cy + half_h) * tile.height};
    CanvasBox box{.class_id = label.class_id, .rect = intersect(whole, tile.visible)};
    for (int over = index + 1; over < canvas.count && !box.rect.empty(); ++over) {
      box.rect = subtract(box.rect, canvas.tiles[static_cast<std::size_t>(over)].visible);
    }
    if (box.rect.empty()) continue;
    const RectD limit = outline_limit(tile.visible, whole, box.rect);
    if (add_outline(tile, record, static_cast<std::int32_t>(i), limit, labels, box)) {
      labels.boxes.push_back(box);
    }
  }
}

}  // namespace

void collect_labels(const Canvas& canvas, std::span<const Source> sources, CanvasLabels& labels) {
  labels.boxes.clear();
  labels.points.clear();
  for (int i = 0; i < canvas.count; ++i) {
    const int source = canvas.tiles[static_cast<std::size_t>(i)].source;
    collect_tile(canvas, i, sources[static_cast<std::size_t>(source)].record, labels);
  }
  labels.pasted = labels.boxes.size();
}

void copy_paste(Generator& generator, double share, const Canvas& canvas, CanvasLabels& labels) {
  std::vector<std::size_t> outlined;
  for (std::size_t i = 0; i < labels.boxes.size(); ++i) {
    if (labels.boxes[i].point_count > 0) outlined.push_back(i);
  }
  const auto wanted =
      static_cast<std::size_t>(std::nearbyint(share * static_cast<double>(outlined.size())));
  const double width = canvas.size.width;
  for (std::size_t k = 0; k < wanted; ++k) {
    std::swap(outlined[k], outlined[k + generator.below(outlined.size() - k)]);
    CanvasBox copy = labels.boxes[outlined[k]];
    copy.rect = {width - copy.rect.x2, copy.rect.y1, width - copy.rect.x1, copy.rect.y2};
    const bool hides =
        std::any_of(labels.boxes.begin(), labels.boxes.end(), [&](const CanvasBox& other) {
          return area(intersect(copy.rect, other.rect)) >= kMaxHidden * area(other.rect);
        });
    if (hides) continue;
    const std::size_t from = copy.first_point;
    copy.first_point = labels.points.size();
    for (std::size_t i = 0; i < copy.point_count; ++i) {
      const Point p = labels.points[from + i];
      labels.points.push_back({width - p.x, p.y});
    }
    labels.boxes.push_back(copy);
  }
}

void project_labels(CanvasLabels& labels, const Perspective& map, int size,
                    std::vector<Target>& targets) {
  const RectD frame{0, 0, static_cast<double>(size), static_cast<double>(size)};
  std::vector<Point>& shape = labels.work[0];
  for (const CanvasBox& box : labels.boxes) {
    const RectD& r = box.rect;
    shape.clear();
    if (box.point_count > 0) {
      project(map.map, labels.points.data() + box.first_point, box.point_count, shape);
      clip_polygon(shape, frame, labels.work[1]);
    } else {
      const Point corners[4]{{r.x1, r.y1}, {r.x2, r.y1}, {r.x2, r.y2}, {r.x1, r.y2}};
      project(map.map, corners, 4, shape);
    }
    const RectD found = intersect(bounds(shape), frame);
    if (found.empty()) continue;
    const auto corners = [](const RectD& rect, double gain) {
      return BoxF{static_cast<float>(rect.x1 * gain), static_cast<float>(rect.y1 * gain),
                  static_cast<float>(rect.x2 * gain), static_cast<float>(rect.y2 * gain)};
    };
    const BoxF after = corners(found, 1.0);
    if (!keep_box(corners(r, map.gain), after,
                  {.min_area_ratio = box.point_count > 0 ? 0.01f : 0.1f})) {
      continue;
    }
    Target target = box_to_fractions(after, {size, size});
    target.class_id = static_cast<float>(box.class_id);
    targets.push_back(target);
  }
}

}  // namespace brim::detail
