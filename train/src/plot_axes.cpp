#include "plot_axes.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace brim::plotting {
namespace {

constexpr double kTickSize = 10, kLabelSize = 11, kTitleSize = 13, kLegendSize = 10;
constexpr double kLegendRow = 15, kSwatch = 18;

double tick_step(const Range& range, int wanted) {
  const double raw = (range.high - range.low) / std::max(wanted, 1);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10 * power;
}

/// A range with some air around it, never of no extent.
Range widened(Range r, double share) {
  if (r.empty()) return {0, 1};
  double extent = r.high - r.low;
  if (extent <= std::abs(r.high) * 1e-9) extent = r.high == 0 ? 1 : std::abs(r.high) * 0.2;
  return {r.low - extent * share, r.high + extent * share};
}

void include(Range& range, double value) {
  if (!std::isfinite(value)) return;
  range.low = std::min(range.low, value);
  range.high = std::max(range.high, value);
}

}  // namespace

std::vector<double> round_ticks(const Range& range, int wanted, double least_step) {
  std::vector<double> ticks;
  if (!(range.high > range.low)) return ticks;
  const double step = std::max(tick_step(range, wanted), least_step);
  const double slack = (range.high - range.low) * 1e-9;
  for (double i = std::ceil((range.low - slack) / step); i * step <= range.high + slack; ++i) {
    ticks.push_back(i == 0 ? 0.0 : i * step);
  }
  return ticks;
}

std::string tick_text(double value, double step) {
  char text[32];
  const double largest = std::max(std::abs(value), step);
  if (value != 0 && (largest >= 1e6 || step < 1e-4)) {
    // As many digits as tell it from its neighbours.
    const int digits = static_cast<int>(std::ceil(std::log10(largest / step) - 1e-6)) + 1;
    std::snprintf(text, sizeof text, "%.*g", std::clamp(digits, 3, 9), value);
    return text;
  }
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-6)), 0, 6);
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

Axes::Axes(Canvas& canvas, const Area& area, const Range& x, const Range& y, const Labels& labels)
    : canvas_(canvas), x_(x), y_(y) {
  const Range rising{std::min(y.low, y.high), std::max(y.low, y.high)};
  const auto y_ticks = round_ticks(rising, std::clamp(static_cast<int>(area.height / 45), 2, 8));
  double widest = 0;
  const double y_step = y_ticks.size() > 1 ? y_ticks[1] - y_ticks[0] : 1;
  for (const double t : y_ticks) {
    widest = std::max(widest, Canvas::text_width(tick_text(t, y_step), kTickSize));
  }
  const double left = widest + 12 + (labels.y.empty() ? 0 : 18);
  const double top = labels.title.empty() ? 10 : 28;
  const double bottom = labels.x.empty() ? 24 : 40;
  plot_ = {area.x + left, area.y + top, area.width - left - 14, area.height - top - bottom};
  const auto x_ticks =
      labels.x_numbers
          ? round_ticks(x, std::clamp(static_cast<int>(plot_.width / 60), 2, 10), labels.x_step)
          : std::vector<double>{};
  draw_frame(labels, x_ticks, y_ticks, area);
}

Point Axes::at(double x, double y) const {
  return {plot_.x + (x - x_.low) / (x_.high - x_.low) * plot_.width,
          plot_.y + plot_.height - (y - y_.low) / (y_.high - y_.low) * plot_.height};
}

void Axes::draw_frame(const Labels& labels, const std::vector<double>& x_ticks,
                      const std::vector<double>& y_ticks, const Area& area) {
  const double right = plot_.x + plot_.width, bottom = plot_.y + plot_.height;
  const double x_step = x_ticks.size() > 1 ? x_ticks[1] - x_ticks[0] : 1;
  const double y_step = y_ticks.size() > 1 ? y_ticks[1] - y_ticks[0] : 1;
  for (const double t : x_ticks) {
    const double x = at(t, y_.low).x;
    canvas_.line({x, plot_.y}, {x, bottom}, kGrid, 0.7);
    canvas_.line({x, bottom}, {x, bottom + 4}, kInk, 0.8);
    canvas_.text(tick_text(t, x_step), {x, bottom + 13}, kTickSize, kSoft, Align::Middle);
  }
  for (const double t : y_ticks) {
    const double y = at(x_.low, t).y;
    canvas_.line({plot_.x, y}, {right, y}, kGrid, 0.7);
    canvas_.line({plot_.x - 4, y}, {plot_.x, y}, kInk, 0.8);
    canvas_.text(tick_text(t, y_step), {plot_.x - 8, y}, kTickSize, kSoft, Align::End);
  }
  canvas_.line({plot_.x, plot_.y}, {plot_.x, bottom}, kInk, 0.8);
  canvas_.line({plot_.x, bottom}, {right, bottom}, kInk, 0.8);
  const double middle = plot_.x + plot_.width / 2;
  canvas_.text(labels.title, {middle, area.y + 13}, kTitleSize, kInk, Align::Middle, true);
  canvas_.text(labels.x, {middle, bottom + 30}, kLabelSize, kInk, Align::Middle);
  if (!labels.y.empty()) {
    canvas_.upward_text(labels.y, {area.x + 9, plot_.y + plot_.height / 2}, kLabelSize, kInk);
  }
}

void Axes::draw(const std::vector<double>& x, const std::vector<double>& y, Color color,
                double width) {
  std::vector<Point> run;
  const auto finish = [&] {
    if (run.size() == 1) canvas_.dot(run[0], width + 1, color);
    canvas_.polyline(run, color, width);
    run.clear();
  };
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) {
      finish();
      continue;
    }
    run.push_back(at(x[i], std::clamp(y[i], y_.low, y_.high)));
  }
  if (run.size() > 1 && run.size() <= 40) {
    for (const Point& p : run) canvas_.dot(p, width, color);
  }
  finish();
}

Area legend_size(const std::vector<LegendEntry>& entries) {
  double widest = 0;
  for (const auto& e : entries) widest = std::max(widest, Canvas::text_width(e.name, kLegendSize));
  return {0, 0, widest + kSwatch + 20, kLegendRow * static_cast<double>(entries.size()) + 8};
}

Area draw_legend(Canvas& canvas, Point at, const std::vector<LegendEntry>& entries) {
  Area box = legend_size(entries);
  box.x = at.x;
  box.y = at.y;
  canvas.fill(box, kWhite, 0.85);
  canvas.outline(box, {205, 205, 205}, 0.5);
  double y = box.y + 4 + kLegendRow / 2;
  for (const auto& e : entries) {
    canvas.line({box.x + 7, y}, {box.x + 7 + kSwatch, y}, e.color, e.width);
    canvas.text(e.name, {box.x + 13 + kSwatch, y}, kLegendSize, kInk);
    y += kLegendRow;
  }
  return box;
}

void draw_chart(Canvas& canvas, const Area& area, const Chart& chart) {
  constexpr double kMost = std::numeric_limits<double>::max();
  Range x{kMost, -kMost}, y{kMost, -kMost};
  for (const Series& s : chart.series) {
    for (const double v : s.x) include(x, v);
    for (const double v : s.y) include(y, v);
  }
  const bool share = !y.empty() && y.low >= 0 && y.high <= 1 && y.high > 0.2;
  y = widened(y, 0.06);
  if (share) y = {std::min(0.0, y.low), std::min(y.high, 1.02)};
  x = widened(x, x.empty() || x.high > x.low ? 0.02 : 0.5);
  Axes axes(
      canvas, area, x, y,
      {chart.title, chart.x_label, chart.y_label, true, chart.x_label == "epoch" ? 1.0 : 0.0});
  std::vector<LegendEntry> entries;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    axes.draw(chart.series[i].x, chart.series[i].y, series_color(i), 1.6);
    entries.push_back({chart.series[i].name, series_color(i), 2});
  }
  if (entries.size() < 2 && (entries.empty() || entries[0].name.empty())) return;
  // The corner, or middle of a side, that hides the fewest points.
  const Area size = legend_size(entries), p = axes.plot();
  Point best{};
  int fewest = std::numeric_limits<int>::max();
  const double left = p.x + 6, right = p.x + p.width - size.width - 6;
  const double top = p.y + 6, bottom = p.y + p.height - size.height - 6;
  for (const Point corner :
       {Point{right, top}, Point{left, top}, Point{right, bottom}, Point{left, bottom},
        Point{right, (top + bottom) / 2}, Point{left, (top + bottom) / 2}}) {
    int hidden = 0;
    for (const Series& s : chart.series) {
      const std::size_t points = std::min(s.x.size(), s.y.size());
      for (std::size_t i = 0; i < points; ++i) {
        // The line to the next point as well, at 16 places.
        const std::size_t next = std::min(i + 1, points - 1);
        for (int part = 0; part < 16; ++part) {
          const double t = part / 16.0;
          const Point q =
              axes.at(s.x[i] + t * (s.x[next] - s.x[i]), s.y[i] + t * (s.y[next] - s.y[i]));
          hidden += q.x >= corner.x - 4 && q.x <= corner.x + size.width + 4 &&
                    q.y >= corner.y - 4 && q.y <= corner.y + size.height + 4;
        }
      }
    }
    if (hidden < fewest) {
      fewest = hidden;
      best = corner;
    }
  }
  draw_legend(canvas, best, entries);
}

}  // namespace brim::plotting
