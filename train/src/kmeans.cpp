#include "kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace brim::detail {
namespace {

struct Point {
  double x = 0, y = 0;
};

double squared(const Point& a, const Point& b) {
  return (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
}

std::vector<Point> seeds(const std::vector<Point>& points, int count, Generator& random) {
  std::vector<Point> centers{points[random.below(points.size())]};
  std::vector<double> distance(points.size(), std::numeric_limits<double>::max());
  while (centers.size() < static_cast<std::size_t>(count)) {
    double total = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      distance[i] = std::min(distance[i], squared(points[i], centers.back()));
      total += distance[i];
    }
    double at = random.uniform() * total;
    std::size_t chosen = 0;
    while (chosen + 1 < points.size() && (at -= distance[chosen]) > 0) ++chosen;
    centers.push_back(points[chosen]);
  }
  return centers;
}

bool refine(const std::vector<Point>& points, std::vector<Point>& centers) {
  std::vector<Point> sum(centers.size());
  std::vector<double> members(centers.size(), 0);
  for (const Point& p : points) {
    std::size_t nearest = 0;
    for (std::size_t c = 1; c < centers.size(); ++c) {
      if (squared(p, centers[c]) < squared(p, centers[nearest])) nearest = c;
    }
    sum[nearest].x += p.x;
    sum[nearest].y += p.y;
    members[nearest] += 1;
  }
  bool moved = false;
  for (std::size_t c = 0; c < centers.size(); ++c) {
    if (members[c] == 0) continue;
    const Point next{sum[c].x / members[c], sum[c].y / members[c]};
    moved = moved || squared(next, centers[c]) > 1e-12;
    centers[c] = next;
  }
  return moved;
}

}  // namespace

std::vector<BoxSize> cluster_sizes(std::span<const BoxSize> sizes, int count, Generator& random) {
  std::vector<Point> points;
  points.reserve(sizes.size());
  for (const BoxSize& s : sizes) points.push_back({std::log(s.width), std::log(s.height)});
  auto centers = seeds(points, count, random);
  constexpr int kRounds = 30;
  for (int i = 0; i < kRounds && refine(points, centers); ++i) {
  }
  std::vector<BoxSize> result;
  for (const Point& c : centers) {
    result.push_back({static_cast<float>(std::exp(c.x)), static_cast<float>(std::exp(c.y))});
  }
  return result;
}

}  // namespace brim::detail
