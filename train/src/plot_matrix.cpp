#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "plot_axes.h"

namespace brim {
namespace {

using namespace plotting;

/// White to deep blue.
Color shade(double share) {
  const double t = std::clamp(share, 0.0, 1.0);
  const auto mix = [&](double a, double b, double c) {
    return static_cast<std::uint8_t>(
        std::lround(t < 0.5 ? a + (b - a) * 2 * t : b + (c - b) * (2 * t - 1)));
  };
  return {mix(250, 107, 8), mix(252, 174, 48), mix(255, 214, 107)};
}

std::string share_text(double share) {
  if (share < 0.005) return "";
  char text[16];
  std::snprintf(text, sizeof text, "%.2f", share);
  return text;
}

void draw_scale(Canvas& canvas, const Area& bar) {
  constexpr int kSteps = 100;
  for (int i = 0; i < kSteps; ++i) {
    canvas.fill(
        {bar.x, bar.y + bar.height * (kSteps - 1 - i) / kSteps, bar.width, bar.height / kSteps + 1},
        shade((i + 0.5) / kSteps));
  }
  canvas.outline(bar, kSoft, 0.5);
  for (int i = 0; i <= 5; ++i) {
    const double y = bar.y + bar.height * (1 - i / 5.0);
    canvas.line({bar.x + bar.width, y}, {bar.x + bar.width + 4, y}, kInk, 0.8);
    canvas.text(tick_text(i / 5.0, 0.2), {bar.x + bar.width + 8, y}, 10, kSoft);
  }
}

}  // namespace

MatrixPlot matrix_plot(const ConfusionMatrix& matrix, std::span<const std::string> class_names) {
  const int size = matrix.classes() + 1;
  MatrixPlot plot{.size = size, .cells = {}, .names = {}};
  for (int p = 0; p < size; ++p) {
    for (int t = 0; t < size; ++t) plot.cells.push_back(static_cast<double>(matrix.at(p, t)));
    const auto i = static_cast<std::size_t>(p);
    plot.names.push_back(p + 1 == size            ? "background"
                         : i < class_names.size() ? class_names[i]
                                                  : std::to_string(p));
  }
  return plot;
}

MatrixPlot matrix_plot(const ClassificationScores& scores,
                       std::span<const std::string> class_names) {
  const auto size = static_cast<int>(scores.class_images.size());
  MatrixPlot plot{.size = size,
                  .cells = {scores.confusion.begin(), scores.confusion.end()},
                  .names = {class_names.begin(), class_names.end()}};
  for (int i = static_cast<int>(plot.names.size()); i < size; ++i)
    plot.names.push_back(std::to_string(i));
  return plot;
}

void plot_matrix(const MatrixPlot& matrix, const std::string& path) {
  const int n = matrix.size;
  if (n > kConfusionClasses + 1 || std::ssize(matrix.cells) != std::ptrdiff_t{n} * n)
    throw std::invalid_argument("a matrix of too many classes to draw");
  // At least so large that names stay legible, as long as the picture stays within reason.
  const double least = std::clamp(2000.0 / std::max(n, 1), 1.0, 10.0);
  const double cell = std::clamp(640.0 / std::max(n, 1), least, 80.0);
  const double text = std::clamp(cell * 0.5, 6.0, 11.0), side = cell * n;
  double widest = 0;
  for (const auto& name : matrix.names) widest = std::max(widest, Canvas::text_width(name, text));
  const double names = std::min(widest, 130.0) + 14;
  const Area grid{30 + names, 46, side, side};
  Canvas canvas(static_cast<int>(std::max(grid.x + side + 90, 420.0)),
                static_cast<int>(grid.y + side + names + 34));
  const auto value = [&](int p, int t) {
    return matrix.cells[static_cast<std::size_t>(p * n + t)];
  };
  for (int t = 0; t < n; ++t) {
    double total = 0;
    for (int p = 0; p < n; ++p) total += value(p, t);
    for (int p = 0; p < n; ++p) {
      const double share = total > 0 ? value(p, t) / total : 0;
      const Area a{grid.x + t * cell, grid.y + p * cell, cell, cell};
      canvas.fill(a, shade(share));
      if (cell >= 24) {
        canvas.text(share_text(share), {a.x + cell / 2, a.y + cell / 2},
                    std::clamp(cell * 0.3, 8.0, 14.0), share > 0.55 ? kWhite : kInk, Align::Middle);
      }
    }
  }
  for (int i = 0; cell >= 16 && i <= n; ++i) {
    const double at = i * cell;
    canvas.line({grid.x + at, grid.y}, {grid.x + at, grid.y + side}, kGrid, 0.5);
    canvas.line({grid.x, grid.y + at}, {grid.x + side, grid.y + at}, kGrid, 0.5);
  }
  canvas.outline(grid, kInk, 0.8);
  const int every = std::max(1, static_cast<int>(std::ceil(9 / cell)));
  for (int i = 0; i < n; i += every) {
    const double at = (i + 0.5) * cell;
    const std::string name = fitted(matrix.names[static_cast<std::size_t>(i)], names - 12, text);
    canvas.text(name, {grid.x - 6, grid.y + at}, text, kInk, Align::End);
    canvas.upward_text(name, {grid.x + at, grid.y + side + 6 + Canvas::text_width(name, text) / 2},
                       text, kInk);
  }
  canvas.text("Confusion matrix (shares of each true class)", {grid.x + side / 2, 22}, 14, kInk,
              Align::Middle, true);
  canvas.text("true", {grid.x + side / 2, grid.y + side + names + 16}, 12, kInk, Align::Middle);
  canvas.upward_text("predicted", {14, grid.y + side / 2}, 12, kInk);
  draw_scale(canvas, {grid.x + side + 22, grid.y, 16, std::min(side, 400.0)});
  canvas.save(path);
}

}  // namespace brim
