#include "brim/train/boxes.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace brim {
namespace {

constexpr float kEpsilon = 1e-7f;
constexpr float kAspectScale = static_cast<float>(4.0 / (std::numbers::pi * std::numbers::pi));

/// Derivative of max(a, b) by a; a tie is shared.
float larger(float a, float b) {
  return a > b ? 1.0f : a < b ? 0.0f : 0.5f;
}
float smaller(float a, float b) {
  return larger(b, a);
}

/// One axis of two boxes: what they share, what encloses them, and both by centre and size of `a`.
struct Axis {
  float shared, shared_by_center, shared_by_size;
  float hull, hull_by_center, hull_by_size;
  Axis(float center_a, float size_a, float center_b, float size_b) {
    const float low_a = center_a - size_a / 2, high_a = center_a + size_a / 2;
    const float low_b = center_b - size_b / 2, high_b = center_b + size_b / 2;
    const float between = std::min(high_a, high_b) - std::max(low_a, low_b);
    shared = std::max(between, 0.0f);
    const float touches = between >= 0 ? 1.0f : 0.0f;
    const float by_high = smaller(high_a, high_b) * touches;
    const float by_low = -larger(low_a, low_b) * touches;
    shared_by_center = by_high + by_low;
    shared_by_size = (by_high - by_low) / 2;
    hull = std::max(high_a, high_b) - std::min(low_a, low_b);
    const float hull_by_high = larger(high_a, high_b), hull_by_low = -smaller(low_a, low_b);
    hull_by_center = hull_by_high + hull_by_low;
    hull_by_size = (hull_by_high - hull_by_low) / 2;
  }
};

}  // namespace

BoxF to_corners(const CenterBox& box) {
  return {box.cx - box.width / 2, box.cy - box.height / 2, box.cx + box.width / 2,
          box.cy + box.height / 2};
}

CenterBox to_center(const BoxF& rect) {
  return {(rect.x1 + rect.x2) / 2, (rect.y1 + rect.y2) / 2, rect.x2 - rect.x1, rect.y2 - rect.y1};
}

BoxF to_original(const BoxF& in_sample, const Placement& placement) {
  const BoxF r{(in_sample.x1 - placement.pad_x) / placement.scale_x,
               (in_sample.y1 - placement.pad_y) / placement.scale_y,
               (in_sample.x2 - placement.pad_x) / placement.scale_x,
               (in_sample.y2 - placement.pad_y) / placement.scale_y};
  return clip_box(r, {placement.original_width, placement.original_height});
}

float iou(const BoxF& a, const BoxF& b) {
  const float w = std::max(std::min(a.x2, b.x2) - std::max(a.x1, b.x1), 0.0f);
  const float h = std::max(std::min(a.y2, b.y2) - std::max(a.y1, b.y1), 0.0f);
  const float shared = w * h;
  const float area_a = (a.x2 - a.x1) * (a.y2 - a.y1), area_b = (b.x2 - b.x1) * (b.y2 - b.y1);
  return shared / (area_a + area_b - shared + kEpsilon);
}

float overlap(const CenterBox& a, const CenterBox& b, Overlap kind) {
  const Axis x(a.cx, a.width, b.cx, b.width), y(a.cy, a.height, b.cy, b.height);
  const float shared = x.shared * y.shared;
  const float all = a.width * a.height + b.width * b.height - shared + kEpsilon;
  const float plain = shared / all;
  if (kind == Overlap::IoU) return plain;
  if (kind == Overlap::GIoU) {
    const float hull = x.hull * y.hull + kEpsilon;
    return plain - (hull - all) / hull;
  }
  const float dx = b.cx - a.cx, dy = b.cy - a.cy;
  const float diagonal = x.hull * x.hull + y.hull * y.hull + kEpsilon;
  const float distance = (dx * dx + dy * dy) / diagonal;
  if (kind == Overlap::DIoU) return plain - distance;
  const float angle = std::atan(b.width / b.height) - std::atan(a.width / a.height);
  const float aspect = kAspectScale * angle * angle;
  return plain - (distance + aspect * aspect / (aspect - plain + (1 + kEpsilon)));
}

float ciou_with_gradient(const CenterBox& box, const CenterBox& target, float gradient[4]) {
  const Axis x(box.cx, box.width, target.cx, target.width);
  const Axis y(box.cy, box.height, target.cy, target.height);
  const float shared = x.shared * y.shared;
  const float all = box.width * box.height + target.width * target.height - shared + kEpsilon;
  const float plain = shared / all;
  const float dx = target.cx - box.cx, dy = target.cy - box.cy;
  const float diagonal = x.hull * x.hull + y.hull * y.hull + kEpsilon;
  const float distance = (dx * dx + dy * dy) / diagonal;
  const float angle = std::atan(target.width / target.height) - std::atan(box.width / box.height);
  const float aspect = kAspectScale * angle * angle;
  const float weight = aspect / (aspect - plain + (1 + kEpsilon));

  const float square = box.width * box.width + box.height * box.height;
  const float by_angle = -2 * kAspectScale * angle / square * weight;
  const auto total = [&](float d_shared, float d_area, float d_squared_distance, float d_diagonal) {
    const float d_plain = (d_shared - plain * (d_area - d_shared)) / all;
    return d_plain - (d_squared_distance - distance * d_diagonal) / diagonal;
  };
  gradient[0] = total(x.shared_by_center * y.shared, 0, -2 * dx, 2 * x.hull * x.hull_by_center);
  gradient[1] = total(y.shared_by_center * x.shared, 0, -2 * dy, 2 * y.hull * y.hull_by_center);
  gradient[2] = total(x.shared_by_size * y.shared, box.height, 0, 2 * x.hull * x.hull_by_size) -
                by_angle * box.height;
  gradient[3] = total(y.shared_by_size * x.shared, box.width, 0, 2 * y.hull * y.hull_by_size) +
                by_angle * box.width;
  return plain - (distance + aspect * weight);
}

torch::Tensor overlap(const torch::Tensor& a, const torch::Tensor& b, Overlap kind) {
  const auto half_a = a.slice(1, 2, 4) / 2, half_b = b.slice(1, 2, 4) / 2;
  const auto low_a = a.slice(1, 0, 2) - half_a, high_a = a.slice(1, 0, 2) + half_a;
  const auto low_b = b.slice(1, 0, 2) - half_b, high_b = b.slice(1, 0, 2) + half_b;
  const auto shared = (torch::min(high_a, high_b) - torch::max(low_a, low_b)).clamp_min(0).prod(1);
  const auto all =
      a.select(1, 2) * a.select(1, 3) + b.select(1, 2) * b.select(1, 3) - shared + kEpsilon;
  const auto plain = shared / all;
  if (kind == Overlap::IoU) return plain;
  const auto hull = torch::max(high_a, high_b) - torch::min(low_a, low_b);
  if (kind == Overlap::GIoU) {
    const auto area = hull.select(1, 0) * hull.select(1, 1) + kEpsilon;
    return plain - (area - all) / area;
  }
  const auto squared_distance = (b.slice(1, 0, 2) - a.slice(1, 0, 2)).square().sum(1);
  const auto distance = squared_distance / (hull.square().sum(1) + kEpsilon);
  if (kind == Overlap::DIoU) return plain - distance;
  const auto angle =
      torch::atan(b.select(1, 2) / b.select(1, 3)) - torch::atan(a.select(1, 2) / a.select(1, 3));
  const auto aspect = kAspectScale * angle.square();
  const auto weight = (aspect / (aspect - plain + (1 + kEpsilon))).detach();
  return plain - (distance + aspect * weight);
}

}  // namespace brim
