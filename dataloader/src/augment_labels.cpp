#include "augment_labels.h"

#include <algorithm>
#include <cmath>

namespace brim::detail {
namespace {

constexpr double kMaxHidden = 0.30;

double area(const RectD& rect) {
  return rect.empty() ? 0.0 : (rect.x2 - rect.x1) * (rect.y2 - rect.y1);
}

/// Appends the outline of box `index`, brought to the canvas and cut to it. False: the box has
/// an outline of which nothing is left.
bool add_outline(const Tile& tile, const Record& record, std::int32_t index, CanvasLabels& labels,
                 CanvasBox& box) {
  for (const Polygon& polygon : record.polygons) {
    if (polygon.box != index || polygon.points.size() < 6) continue;
    std::vector<Point>& outline = labels.work[0];
    outline.clear();
    for (std::size_t i = 0; i + 1 < polygon.points.size(); i += 2) {
      outline.push_back(
          {tile.x + polygon.points[i] * tile.width, tile.y + polygon.points[i + 1] * tile.height});
    }
    clip_polygon(outline, tile.visible, labels.work[1]);
    if (outline.size() < 3) return false;
    box.first_point = labels.points.size();
    box.point_count = outline.size();
    labels.points.insert(labels.points.end(), outline.begin(), outline.end());
    return true;
  }
  return true;
}

void collect_tile(const Tile& tile, const Record& record, CanvasLabels& labels) {
  for (std::size_t i = 0; i < record.boxes.size(); ++i) {
    const Box& label = record.boxes[i];
    const double half_w = label.width / 2.0, half_h = label.height / 2.0;
    const RectD whole{
        tile.x + (label.cx - half_w) * tile.width, tile.y + (label.cy - half_h) * tile.height,
        tile.x + (label.cx + half_w) * tile.width, tile.y + (label.cy + half_h) * tile.height};
    CanvasBox box{.class_id = label.class_id, .rect = intersect(whole, tile.visible)};
    if (box.rect.empty()) continue;
    if (add_outline(tile, record, static_cast<std::int32_t>(i), labels, box)) {
      labels.boxes.push_back(box);
    }
  }
}

}  // namespace

void collect_labels(const Canvas& canvas, std::span<const Source> sources, CanvasLabels& labels) {
  labels.boxes.clear();
  labels.points.clear();
  for (int i = 0; i < canvas.count; ++i) {
    const Tile& tile = canvas.tiles[static_cast<std::size_t>(i)];
    collect_tile(tile, sources[static_cast<std::size_t>(tile.source)].record, labels);
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
