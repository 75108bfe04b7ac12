#pragma once

#include <cstdint>
#include <opencv2/core.hpp>
#include <span>
#include <string>
#include <vector>

namespace brim::plotting {

struct Color {
  std::uint8_t r = 0, g = 0, b = 0;
};
inline cv::Scalar ink(Color c) {
  return {double(c.r), double(c.g), double(c.b)};
}
inline constexpr Color kWhite{255, 255, 255}, kInk{38, 38, 38}, kSoft{84, 84, 84},
    kGrid{228, 228, 228};

/// Colours that stay apart for colour-blind readers (Okabe and Ito 2008), then hues by the golden
/// angle.
Color series_color(std::size_t index);

struct Point {
  double x = 0, y = 0;
};
struct Area {
  double x = 0, y = 0, width = 0, height = 0;
};
enum class Align : std::uint8_t { Start, Middle, End };

/// A drawing surface in logical pixels, drawn at twice the size and brought down when saved, so
/// that lines and letters are smooth.
class Canvas {
 public:
  Canvas(int width, int height, Color background = kWhite);
  int width() const { return width_; }
  int height() const { return height_; }

  void line(Point a, Point b, Color color, double width = 1);
  void polyline(std::span<const Point> points, Color color, double width);
  void fill(const Area& area, Color color, double opacity = 1);
  void outline(const Area& area, Color color, double width = 1);
  void dot(Point center, double radius, Color color);
  /// `size`: height of a capital letter plus a third, logical pixels. `at` is the middle of the
  /// line of text vertically.
  void text(const std::string& words, Point at, double size, Color color,
            Align align = Align::Start, bool bold = false);
  /// Reads upwards, centred on `at`.
  void upward_text(const std::string& words, Point at, double size, Color color);
  static double text_width(const std::string& words, double size);
  /// Pixels (RGB, 8 bit) scaled into `area`.
  void picture(const cv::Mat& rgb, const Area& area);
  /// Throws Error where the file cannot be written.
  void save(const std::string& path) const;

 private:
  int width_, height_;
  cv::Mat pixels_;  ///< RGB, kScale times as large
};

/// `words` cut to `width` with "..." where too long.
std::string fitted(const std::string& words, double width, double size);
/// Writes an RGB picture; throws Error.
void write_picture(const cv::Mat& rgb, const std::string& path);

}  // namespace brim::plotting
