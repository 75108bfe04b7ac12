#pragma once

#include <array>
#include <vector>

#include "brim/dataloader/letterbox.h"
#include "brim/dataloader/random.h"

namespace brim::detail {

struct Point {
  double x = 0, y = 0;
};

/// A projective map of the plane, row-major. Coordinates are continuous: pixel i covers [i, i + 1).
struct Matrix3 {
  std::array<double, 9> m{1, 0, 0, 0, 1, 0, 0, 0, 1};
  double operator()(int row, int column) const {
    return m[static_cast<std::size_t>(3 * row + column)];
  }
  bool affine() const { return m[6] == 0 && m[7] == 0; }
  static Matrix3 translation(double x, double y) { return {{1, 0, x, 0, 1, y, 0, 0, 1}}; }
  static Matrix3 scaling(double x, double y) { return {{x, 0, 0, 0, y, 0, 0, 0, 1}}; }
  /// x -> width - x.
  static Matrix3 mirror_x(double width) { return {{-1, 0, width, 0, 1, 0, 0, 0, 1}}; }
  static Matrix3 mirror_y(double height) { return {{1, 0, 0, 0, -1, height, 0, 0, 1}}; }
};
Matrix3 operator*(const Matrix3& a, const Matrix3& b);
Matrix3 inverse(const Matrix3& a);

struct RectD {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  bool empty() const { return x2 <= x1 || y2 <= y1; }
};
RectD intersect(const RectD& a, const RectD& b);

struct Perspective {
  Matrix3 map{};    ///< canvas to sample
  double gain = 1;  ///< scale of the image within it
};
/// YOLOv5's random perspective from a canvas to a sample of `size` pixels:
/// M = T S R P C, with C moving the canvas' centre to the origin, P the perspective terms, R
/// rotation and gain, S shear and T the translation to about the sample's centre.
Perspective draw_perspective(Generator& generator, const DetectionAugmentation& settings,
                             Size canvas, int size);

/// `points` through `map`, cut off where the plane turns away (w <= 0.02), appended to `out`.
void project(const Matrix3& map, const Point* points, std::size_t count, std::vector<Point>& out);
/// Cuts `polygon` to `rect` (Sutherland and Hodgman 1974). `work` is scratch.
void clip_polygon(std::vector<Point>& polygon, const RectD& rect, std::vector<Point>& work);
/// Bounding box; empty for no points.
RectD bounds(const std::vector<Point>& points);

}  // namespace brim::detail
