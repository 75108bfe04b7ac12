#include "plot_canvas.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "brim/cache/error.h"

namespace brim::plotting {
namespace {

constexpr int kScale = 2;
constexpr int kShift = 4;  // OpenCV's fixed-point bits for coordinates
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kFontHeight = 29;  // capital plus a third at scale 1

cv::Point fixed(Point p) {
  const double f = kScale * (1 << kShift);
  return {static_cast<int>(std::lround(p.x * f)), static_cast<int>(std::lround(p.y * f))};
}

int thickness(double width) {
  return std::max(1, static_cast<int>(std::lround(width * kScale)));
}

/// The font knows ASCII only; any other character becomes one question mark.
std::string drawable(const std::string& words) {
  std::string result;
  for (const char c : words) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) result += byte < 0x20 ? ' ' : c;
    if (byte >= 0xC0) result += '?';
  }
  return result;
}

struct TextShape {
  double scale;
  int stroke;
  cv::Size size;
};

TextShape shape_of(const std::string& words, double size, bool bold) {
  TextShape t;
  t.scale = size * kScale / kFontHeight;
  t.stroke = std::max(1, static_cast<int>(std::lround(size * kScale / (bold ? 13.0 : 17.0))));
  int baseline = 0;
  t.size = cv::getTextSize(words, kFont, t.scale, t.stroke, &baseline);
  return t;
}

cv::Rect whole(const Area& a) {
  const int x = static_cast<int>(std::lround(a.x * kScale));
  const int y = static_cast<int>(std::lround(a.y * kScale));
  return {x, y, static_cast<int>(std::lround((a.x + a.width) * kScale)) - x,
          static_cast<int>(std::lround((a.y + a.height) * kScale)) - y};
}

Color from_hue(double hue) {
  const auto channel = [&](double offset) {
    const double k = std::fmod(offset + hue * 12, 12.0);
    const double v = 0.5 - 0.36 * std::max(-1.0, std::min({k - 3, 9 - k, 1.0}));
    return static_cast<std::uint8_t>(std::lround(255 * v));
  };
  return {channel(0), channel(8), channel(4)};
}

}  // namespace

Color series_color(std::size_t index) {
  static constexpr Color kColors[] = {{0, 114, 178},   {213, 94, 0},  {0, 158, 115},
                                      {204, 121, 167}, {230, 159, 0}, {86, 180, 233},
                                      {120, 94, 240},  {150, 113, 60}};
  if (index < std::size(kColors)) return kColors[index];
  return from_hue(std::fmod(static_cast<double>(index) * 0.61803398875, 1.0));
}

Canvas::Canvas(int width, int height, Color background)
    : width_(width),
      height_(height),
      pixels_(height * kScale, width * kScale, CV_8UC3, ink(background)) {}

void Canvas::line(Point a, Point b, Color color, double width) {
  cv::line(pixels_, fixed(a), fixed(b), ink(color), thickness(width), cv::LINE_AA, kShift);
}

void Canvas::polyline(std::span<const Point> points, Color color, double width) {
  std::vector<cv::Point> fixed_points;
  for (const Point& p : points) fixed_points.push_back(fixed(p));
  if (fixed_points.size() < 2) return;
  cv::polylines(pixels_, fixed_points, false, ink(color), thickness(width), cv::LINE_AA, kShift);
}

void Canvas::fill(const Area& area, Color color, double opacity) {
  const cv::Rect rect = whole(area) & cv::Rect(0, 0, pixels_.cols, pixels_.rows);
  if (rect.empty()) return;
  cv::Mat part = pixels_(rect);
  if (opacity >= 1) {
    part.setTo(ink(color));
  } else {
    const cv::Mat flat(part.size(), part.type(), ink(color));
    cv::addWeighted(flat, opacity, part, 1 - opacity, 0, part);
  }
}

void Canvas::outline(const Area& a, Color color, double width) {
  cv::rectangle(pixels_, fixed({a.x, a.y}), fixed({a.x + a.width, a.y + a.height}), ink(color),
                thickness(width), cv::LINE_AA, kShift);
}

void Canvas::dot(Point center, double radius, Color color) {
  const int r = static_cast<int>(std::lround(radius * kScale * (1 << kShift)));
  cv::circle(pixels_, fixed(center), r, ink(color), cv::FILLED, cv::LINE_AA, kShift);
}

void Canvas::text(const std::string& words, Point at, double size, Color color, Align align,
                  bool bold) {
  const std::string line = drawable(words);
  const TextShape t = shape_of(line, size, bold);
  double x = at.x * kScale;
  if (align == Align::Middle) x -= t.size.width / 2.0;
  if (align == Align::End) x -= t.size.width;
  const cv::Point origin(static_cast<int>(std::lround(x)),
                         static_cast<int>(std::lround(at.y * kScale + t.size.height / 2.0)));
  cv::putText(pixels_, line, origin, kFont, t.scale, ink(color), t.stroke, cv::LINE_AA);
}

void Canvas::upward_text(const std::string& words, Point at, double size, Color color) {
  const std::string line = drawable(words);
  const TextShape t = shape_of(line, size, false);
  const int margin = t.size.height;
  cv::Mat cover(t.size.height + 2 * margin, t.size.width + 2 * margin, CV_8UC1, cv::Scalar(0));
  cv::putText(cover, line, {margin, margin + t.size.height}, kFont, t.scale, {255}, t.stroke,
              cv::LINE_AA);
  cv::rotate(cover, cover, cv::ROTATE_90_COUNTERCLOCKWISE);
  const int left = static_cast<int>(std::lround(at.x * kScale)) - cover.cols / 2;
  const int top = static_cast<int>(std::lround(at.y * kScale)) - cover.rows / 2;
  for (int y = std::max(0, -top); y < cover.rows && top + y < pixels_.rows; ++y) {
    for (int x = std::max(0, -left); x < cover.cols && left + x < pixels_.cols; ++x) {
      const int a = cover.at<std::uint8_t>(y, x);
      auto& pixel = pixels_.at<cv::Vec3b>(top + y, left + x);
      const std::uint8_t wanted[3] = {color.r, color.g, color.b};
      for (int c = 0; c < 3; ++c) {
        pixel[c] = static_cast<std::uint8_t>((wanted[c] * a + pixel[c] * (255 - a)) / 255);
      }
    }
  }
}

double Canvas::text_width(const std::string& words, double size) {
  return static_cast<double>(shape_of(drawable(words), size, false).size.width) / kScale;
}

void Canvas::picture(const cv::Mat& rgb, const Area& area) {
  const cv::Rect rect = whole(area) & cv::Rect(0, 0, pixels_.cols, pixels_.rows);
  if (rect.empty() || rgb.empty()) return;
  cv::Mat part = pixels_(rect);
  cv::resize(rgb, part, rect.size(), 0, 0,
             rgb.cols > rect.width ? cv::INTER_AREA : cv::INTER_NEAREST);
}

void Canvas::save(const std::string& path) const {
  cv::Mat smooth;
  cv::resize(pixels_, smooth, {width_, height_}, 0, 0, cv::INTER_AREA);
  write_picture(smooth, path);
}

std::string fitted(const std::string& words, double width, double size) {
  if (Canvas::text_width(words, size) <= width) return words;
  std::string part = words;
  while (!part.empty() && Canvas::text_width(part + "...", size) > width) part.pop_back();
  return part + "...";
}

void write_picture(const cv::Mat& rgb, const std::string& path) {
  cv::Mat stored;
  cv::cvtColor(rgb, stored, cv::COLOR_RGB2BGR);
  bool written = false;
  try {
    written = cv::imwrite(path, stored);
  } catch (const cv::Exception&) {
    throw Error("unknown picture format", {.file = path}, "use a name that ends in .png or .jpg");
  }
  if (!written) {
    throw Error("cannot write the picture", {.file = path}, "is the folder there and writable?");
  }
}

}  // namespace brim::plotting
