#pragma once

#include <string>
#include <vector>

#include "brim/train/plots.h"
#include "plot_canvas.h"

namespace brim::plotting {

struct Range {
  double low = 0, high = 1;
  bool empty() const { return !(low <= high); }
};

/// About `wanted` round values (1, 2 or 5 times a power of ten apart, at least `least_step`) that
/// cover `range`.
std::vector<double> round_ticks(const Range& range, int wanted, double least_step = 0);
/// Short text of a tick among ticks `step` apart: 0.05, 120, 3e-05.
std::string tick_text(double value, double step);

/// A pair of axes in an area of a canvas: frame, grid, ticks and labels are drawn at once; `at`
/// maps data to the canvas. A y range from high to low grows downwards.
class Axes {
 public:
  struct Labels {
    std::string title{}, x{}, y{};
    bool x_numbers = true;  ///< else the x axis is left to the caller
    double x_step = 0;      ///< least distance of its ticks: 1 for what is counted
  };
  Axes(Canvas& canvas, const Area& area, const Range& x, const Range& y, const Labels& labels);
  Point at(double x, double y) const;
  const Area& plot() const { return plot_; }
  /// A line through all finite points; single points become dots.
  void draw(const std::vector<double>& x, const std::vector<double>& y, Color color, double width);

 private:
  void draw_frame(const Labels& labels, const std::vector<double>& x_ticks,
                  const std::vector<double>& y_ticks, const Area& area);
  Canvas& canvas_;
  Area plot_;
  Range x_, y_;
};

struct LegendEntry {
  std::string name{};
  Color color{};
  double width = 1.5;
};
/// Draws a legend from the top left corner `at` down; returns its size.
Area draw_legend(Canvas& canvas, Point at, const std::vector<LegendEntry>& entries);
Area legend_size(const std::vector<LegendEntry>& entries);

/// One chart with its legend where it hides the fewest points.
void draw_chart(Canvas& canvas, const Area& area, const Chart& chart);

}  // namespace brim::plotting
