#include "warp.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace brim::detail {
namespace {

/// Cuts between images overlap by this much (pixels), so that rounding leaves no pixel unpainted.
constexpr double kOverlap = 1e-6;

/// Source pixels are fetched into the cache this many output rows before they are read.
constexpr double kRowsAhead = 4;

struct Interval {
  int begin, end;
  /// Keeps the x with slope * x + offset >= 0.
  void keep(double slope, double offset) {
    if (slope > 0) {
      begin = std::max(begin, ceil_within(-offset / slope));
    } else if (slope < 0) {
      end = std::min(end, floor_within(-offset / slope) + 1);
    } else if (offset < 0) {
      end = begin;
    }
  }

 private:
  static constexpr double kFar = 1e6;
  static int ceil_within(double x) {
    return static_cast<int>(std::ceil(std::clamp(x, -kFar, kFar)));
  }
  static int floor_within(double x) {
    return static_cast<int>(std::floor(std::clamp(x, -kFar, kFar)));
  }
};

/// The row of pixels in `within` where u and v lie in `bounds`.
Interval inside(const Ray& ray, const std::array<double, 4>& bounds, Interval within) {
  within.keep(ray.du - bounds[0] * ray.dw, ray.u - bounds[0] * ray.w);
  within.keep(bounds[1] * ray.dw - ray.du, bounds[1] * ray.w - ray.u);
  within.keep(ray.dv - bounds[2] * ray.dw, ray.v - bounds[2] * ray.w);
  within.keep(bounds[3] * ray.dw - ray.dv, bounds[3] * ray.w - ray.v);
  return within;
}

Ray ray_at(const Matrix3& map, double x, double y) {
  return {map(0, 0) * x + map(0, 1) * y + map(0, 2), map(0, 0),
          map(1, 0) * x + map(1, 1) * y + map(1, 2), map(1, 0),
          map(2, 0) * x + map(2, 1) * y + map(2, 2), map(2, 0)};
}

std::int32_t fixed(double value) {
  return static_cast<std::int32_t>(std::floor(value * 65536.0 + 0.5));
}

/// Share of a pixel at `position` that an image covers between its fading edges.
double coverage(double position, const double* outer, const double* inner) {
  double share = 1;
  if (position < inner[0]) share = (position - outer[0]) / (inner[0] - outer[0]);
  if (position > inner[1]) {
    share = std::min(share, (outer[1] - position) / (outer[1] - inner[1]));
  }
  return std::clamp(share, 0.0, 1.0);
}

void fade(const WarpTile& tile, const Ray& ray, Span span, PixelRow& row) {
  for (int x = span.begin; x < span.end; ++x) {
    const double w = ray.w + x * ray.dw;
    const double share =
        coverage((ray.u + x * ray.du) / w, tile.outer.data(), tile.inner.data()) *
        coverage((ray.v + x * ray.dv) / w, tile.outer.data() + 2, tile.inner.data() + 2);
    const int weight = static_cast<int>(share * 256 + 0.5);
    for (int c = 0; c < 3; ++c) {
      std::uint8_t& value = row.plane(c)[x];
      value = static_cast<std::uint8_t>((value * weight + kPadGrey * (256 - weight) + 128) >> 8);
    }
  }
}

/// Two neighbours at a 16.16 position: the first and the weights of both, of 256; no weights where
/// it is the first alone.
struct Neighbours {
  explicit Neighbours(std::int32_t position) : first(position >> 16) {
    const int weight = ((position & 0xFFFF) + 128) >> 8;
    if (weight == 256) ++first;
    if (weight % 256 == 0) return;
    weights = {static_cast<std::uint8_t>(256 - weight), static_cast<std::uint8_t>(weight)};
  }
  int first;
  std::array<std::uint8_t, 2> weights{};
};

/// Columns of `tile` where all its rows read the same.
void plan_columns(int width, WarpTile& tile) {
  const Matrix3& map = tile.to_source;
  tile.upright = map.affine() && map(0, 1) == 0 && map(1, 0) == 0;
  if (!tile.upright) return;
  const Ray ray = ray_at(map, 0, 0);
  const auto within = [&](const std::array<double, 4>& bounds) -> Span {
    Interval span{0, width};
    span.keep(ray.du, ray.u - bounds[0]);
    span.keep(-ray.du, bounds[1] - ray.u);
    return {span.begin, std::max(span.begin, span.end)};
  };
  const Span painted = within(tile.outer), covered = within(tile.inner);
  tile.covered = {covered.begin, covered.end};
  tile.columns.begin_plan(painted.begin, painted.end, 2);
  if (painted.empty()) return;
  // Beyond the source its edge is repeated.
  const double last = (tile.pixels.width - 1) * 65536.0 - 1;
  for (int x = painted.begin; x < painted.end; ++x) {
    const double at = std::clamp((ray.u + x * ray.du) * 65536.0 + 0.5, 0.0, last);
    const Neighbours taps(static_cast<std::int32_t>(at));
    std::copy_n(taps.weights.data(), 2, tile.columns.set(x, taps.first));
  }
  tile.columns.end_plan(0, tile.pixels.width);
}

}  // namespace

void make_warp_tile(const Tile& tile, const ImageView& pixels, const Matrix3& sample_to_canvas,
                    int width, WarpTile& warp) {
  warp.pixels = pixels;
  const double sx = pixels.width / tile.width, sy = pixels.height / tile.height;
  warp.to_source = Matrix3::translation(-0.5, -0.5) * Matrix3::scaling(sx, sy) *
                   Matrix3::translation(-tile.x, -tile.y) * sample_to_canvas *
                   Matrix3::translation(0.5, 0.5);
  const auto side = [&](std::size_t i, Edge edge, double position, double outwards, double origin,
                        double scale) {
    const double reach = edge == Edge::Grey ? 0.5 : kOverlap;
    const double full = edge == Edge::Grey ? -0.5 : kOverlap;
    warp.outer[i] = (position + outwards * reach - origin) * scale - 0.5;
    warp.inner[i] = (position + outwards * full - origin) * scale - 0.5;
  };
  side(0, tile.left, tile.visible.x1, -1, tile.x, sx);
  side(1, tile.right, tile.visible.x2, 1, tile.x, sx);
  side(2, tile.top, tile.visible.y1, -1, tile.y, sy);
  side(3, tile.bottom, tile.visible.y2, 1, tile.y, sy);
  plan_columns(width, warp);
}

Span Span::hull(const Span& other) const {
  if (empty()) return other;
  if (other.empty()) return *this;
  return {std::min(begin, other.begin), std::max(end, other.end)};
}

Span RowPainter::paint(const WarpTile& tile, int y, Span within, PixelRow& row) {
  if (tile.upright) return paint_upright(tile, y, within, row);
  const Ray ray = ray_at(tile.to_source, 0, y);
  Interval span{within.begin, within.end};
  if (!tile.to_source.affine()) {
    // In front of the camera, and no nearer than `project` lets labels come.
    span.keep(ray.dw, ray.w - 1e-6);
    span.keep(-ray.dw, 50.0 - ray.w);
  }
  span = inside(ray, tile.outer, span);
  const Span painted{span.begin, span.end};
  if (painted.empty()) return {};
  sample(tile, ray, painted, row);
  Interval full = inside(ray, tile.inner, span);
  if (full.begin >= full.end) full = {span.end, span.end};
  fade(tile, ray, {painted.begin, full.begin}, row);
  fade(tile, ray, {full.end, painted.end}, row);
  return painted;
}

Span RowPainter::paint_upright(const WarpTile& tile, int y, Span within, PixelRow& row) {
  const Ray ray = ray_at(tile.to_source, 0, y);
  if (ray.v < tile.outer[2] || ray.v > tile.outer[3]) return {};
  const Span columns{tile.columns.begin(), tile.columns.end()};
  const Span painted{std::max(within.begin, columns.begin), std::min(within.end, columns.end)};
  if (painted.empty()) return {};
  if (painted.begin == columns.begin && painted.end == columns.end) {
    sample_upright(tile, ray, row);
  } else {
    whole_.resize(row.width());
    sample_upright(tile, ray, whole_);
    row.copy(whole_, painted.begin, painted.end);
  }
  const bool whole = ray.v >= tile.inner[2] && ray.v <= tile.inner[3];
  const int full_begin =
      whole ? std::clamp(tile.covered[0], painted.begin, painted.end) : painted.end;
  const int full_end = whole ? std::clamp(tile.covered[1], full_begin, painted.end) : painted.end;
  fade(tile, ray, {painted.begin, full_begin}, row);
  fade(tile, ray, {full_end, painted.end}, row);
  return painted;
}

void RowPainter::sample_upright(const WarpTile& tile, const Ray& ray, PixelRow& row) {
  const std::int32_t v = std::clamp(fixed(ray.v), 0, ((tile.pixels.height - 1) << 16) - 1);
  const Neighbours taps(v);
  const std::uint8_t* const top = tile.pixels.row(taps.first);
  const std::array<const std::uint8_t*, 2> rows{top, top + tile.pixels.stride};
  const std::ptrdiff_t ahead = std::lround(kRowsAhead * tile.to_source(1, 1)) * tile.pixels.stride;
  const ColumnFilter& columns = tile.columns;
  blended_.blend(isa_, {rows.data(), taps.weights.data(), 2, ahead}, columns.first_column(),
                 columns.column_count(), 2);
  constexpr std::size_t kLost = 32;  // what `apply` may write behind the end
  std::array<std::array<std::uint8_t, kLost>, 3> behind;
  for (int c = 0; c < 3; ++c) {
    std::copy_n(row.plane(c) + columns.end(), kLost, behind[static_cast<std::size_t>(c)].data());
  }
  columns.apply(isa_, blended_, row);
  for (int c = 0; c < 3; ++c) {
    std::copy_n(behind[static_cast<std::size_t>(c)].data(), kLost, row.plane(c) + columns.end());
  }
}

void RowPainter::sample(const WarpTile& tile, const Ray& ray, Span span, PixelRow& row) {
  const std::ptrdiff_t ahead = std::lround(kRowsAhead * tile.to_source(1, 1)) * tile.pixels.stride +
                               std::lround(kRowsAhead * tile.to_source(0, 1)) * 3;
  for (int x = span.begin; x < span.end; x += kBlock) {
    const int count = std::min(kBlock, span.end - x);
    if (tile.to_source.affine()) {
      kernels_.affine(coordinates_, fixed(ray.u + x * ray.du), fixed(ray.du),
                      fixed(ray.v + x * ray.dv), fixed(ray.dv), count);
    } else {
      kernels_.projective(
          coordinates_,
          {ray.u + x * ray.du, ray.du, ray.v + x * ray.dv, ray.dv, ray.w + x * ray.dw, ray.dw},
          count);
    }
    kernels_.sample(tile.pixels, coordinates_, count, ahead, sampled_.data());
    kernels_.split(sampled_.data(), count, row, x);
  }
}

ImageView at_least_2x2(const ImageView& pixels, std::vector<std::uint8_t>& store) {
  if (pixels.width >= 2 && pixels.height >= 2) return pixels;
  const int width = std::max(2, pixels.width), height = std::max(2, pixels.height);
  store.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  std::uint8_t* out = store.data();
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x, out += 3) {
      std::memcpy(
          out, pixels.row(std::min(y, pixels.height - 1)) + 3 * std::min(x, pixels.width - 1), 3);
    }
  }
  return {store.data(), width, height, std::ptrdiff_t{3} * width};
}

void outline_spans(const std::vector<Point>& outline, int y, int width,
                   std::vector<double>& crossings, std::vector<Span>& spans) {
  crossings.clear();
  const double line = y + 0.5;
  for (std::size_t i = 0; i < outline.size(); ++i) {
    const Point &a = outline[i], &b = outline[i + 1 == outline.size() ? 0 : i + 1];
    if ((a.y <= line) != (b.y <= line)) {
      crossings.push_back(a.x + (b.x - a.x) * ((line - a.y) / (b.y - a.y)));
    }
  }
  std::sort(crossings.begin(), crossings.end());
  for (std::size_t i = 0; i + 1 < crossings.size(); i += 2) {
    const auto pixel = [&](double x) {
      return static_cast<int>(std::ceil(std::clamp(x, 0.0, static_cast<double>(width)) - 0.5));
    };
    const int begin = pixel(crossings[i]), end = std::min(width, pixel(crossings[i + 1]));
    if (begin < end) spans.push_back({begin, end});
  }
}

}  // namespace brim::detail
