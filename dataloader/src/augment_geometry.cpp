#include "augment_geometry.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace brim::detail {
namespace {

constexpr double kNearestW = 0.02;

double radians(double degrees) {
  return degrees * std::numbers::pi / 180.0;
}

Point mix_points(const Point& a, const Point& b, double t) {
  return {a.x + (b.x - a.x) * t, a.y + (b.y - a.y) * t};
}

/// Keeps the side of the closed outline `in` where `distance` (a linear function) is >= 0.
template <typename Distance>
void cut(const std::vector<Point>& in, std::vector<Point>& out, Distance distance) {
  out.clear();
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Point &a = in[i], &b = in[i + 1 == in.size() ? 0 : i + 1];
    const double da = distance(a), db = distance(b);
    if (da >= 0) out.push_back(a);
    if ((da >= 0) != (db >= 0)) out.push_back(mix_points(a, b, da / (da - db)));
  }
}

}  // namespace

Matrix3 operator*(const Matrix3& a, const Matrix3& b) {
  Matrix3 c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      c.m[static_cast<std::size_t>(3 * i + j)] =
          a(i, 0) * b(0, j) + a(i, 1) * b(1, j) + a(i, 2) * b(2, j);
    }
  }
  return c;
}

Matrix3 inverse(const Matrix3& a) {
  const auto& m = a.m;
  Matrix3 r{{m[4] * m[8] - m[5] * m[7], m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4],
             m[5] * m[6] - m[3] * m[8], m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5],
             m[3] * m[7] - m[4] * m[6], m[1] * m[6] - m[0] * m[7], m[0] * m[4] - m[1] * m[3]}};
  const double determinant = m[0] * r.m[0] + m[1] * r.m[3] + m[2] * r.m[6];
  const double factor = 1.0 / (determinant == 0 ? 1e-300 : determinant);
  for (double& value : r.m) value *= factor;
  if (a.affine()) {
    r.m[6] = r.m[7] = 0;
    r.m[8] = 1;
  }
  return r;
}

RectD intersect(const RectD& a, const RectD& b) {
  return {std::max(a.x1, b.x1), std::max(a.y1, b.y1), std::min(a.x2, b.x2), std::min(a.y2, b.y2)};
}

Perspective draw_perspective(Generator& generator, const DetectionAugmentation& settings,
                             Size canvas, int size) {
  const double px = generator.uniform(-settings.perspective, settings.perspective);
  const double py = generator.uniform(-settings.perspective, settings.perspective);
  const double angle = radians(generator.uniform(-settings.degrees, settings.degrees));
  const double gain = generator.uniform(1 - settings.scale, 1 + settings.scale);
  const double shear_x = std::tan(radians(generator.uniform(-settings.shear, settings.shear)));
  const double shear_y = std::tan(radians(generator.uniform(-settings.shear, settings.shear)));
  const double to_x = generator.uniform(0.5 - settings.translate, 0.5 + settings.translate) * size;
  const double to_y = generator.uniform(0.5 - settings.translate, 0.5 + settings.translate) * size;

  const Matrix3 perspective{{1, 0, 0, 0, 1, 0, px, py, 1}};
  const double c = gain * std::cos(angle), s = gain * std::sin(angle);
  const Matrix3 rotation{{c, s, 0, -s, c, 0, 0, 0, 1}};
  const Matrix3 shear{{1, shear_x, 0, shear_y, 1, 0, 0, 0, 1}};
  return {Matrix3::translation(to_x, to_y) * shear * rotation * perspective *
              Matrix3::translation(-canvas.width / 2.0, -canvas.height / 2.0),
          gain};
}

void project(const Matrix3& map, const Point* points, std::size_t count, std::vector<Point>& out) {
  const auto w_of = [&](const Point& p) { return map(2, 0) * p.x + map(2, 1) * p.y + map(2, 2); };
  const auto send = [&](const Point& p) {
    const double w = w_of(p);
    out.push_back({(map(0, 0) * p.x + map(0, 1) * p.y + map(0, 2)) / w,
                   (map(1, 0) * p.x + map(1, 1) * p.y + map(1, 2)) / w});
  };
  for (std::size_t i = 0; i < count; ++i) {
    const Point &a = points[i], &b = points[i + 1 == count ? 0 : i + 1];
    const double da = w_of(a) - kNearestW, db = w_of(b) - kNearestW;
    if (da >= 0) send(a);
    if ((da >= 0) != (db >= 0)) send(mix_points(a, b, da / (da - db)));
  }
}

void clip_polygon(std::vector<Point>& polygon, const RectD& rect, std::vector<Point>& work) {
  cut(polygon, work, [&](const Point& p) { return p.x - rect.x1; });
  cut(work, polygon, [&](const Point& p) { return rect.x2 - p.x; });
  cut(polygon, work, [&](const Point& p) { return p.y - rect.y1; });
  cut(work, polygon, [&](const Point& p) { return rect.y2 - p.y; });
}

RectD bounds(const std::vector<Point>& points) {
  if (points.empty()) return {};
  RectD box{points[0].x, points[0].y, points[0].x, points[0].y};
  for (const Point& p : points) {
    box = {std::min(box.x1, p.x), std::min(box.y1, p.y), std::max(box.x2, p.x),
           std::max(box.y2, p.y)};
  }
  return box;
}

}  // namespace brim::detail
