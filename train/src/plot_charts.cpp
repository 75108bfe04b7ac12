#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "plot_axes.h"

namespace brim {
namespace {

using namespace plotting;

constexpr int kNamedClasses = 20;

std::string with_number(const std::string& name, double value) {
  char text[32];
  std::snprintf(text, sizeof text, " %.3f", value);
  return name + text;
}

std::string name_of(std::span<const std::string> names, std::int32_t class_id) {
  const auto i = static_cast<std::size_t>(class_id);
  return i < names.size() ? names[i] : std::to_string(class_id);
}

const std::vector<double>& points_of(const ClassCurves& curves, Curve curve) {
  switch (curve) {
    case Curve::PrecisionByRecall:
      return curves.precision_by_recall;
    case Curve::F1:
      return curves.f1;
    case Curve::Precision:
      return curves.precision;
    default:
      return curves.recall;
  }
}

std::string summary(const DetectionScores& scores, Curve curve, const std::vector<double>& mean) {
  if (curve == Curve::PrecisionByRecall) return with_number("all classes, mAP50", scores.map50);
  const auto best = std::max_element(mean.begin(), mean.end());
  char text[64];
  std::snprintf(text, sizeof text, "all classes, %.2f at %.3f", mean.empty() ? 0.0 : *best,
                mean.empty() ? 0.0 : static_cast<double>(best - mean.begin()) / (kCurvePoints - 1));
  return text;
}

/// What a column shares a chart by, and what it is called there.
std::pair<std::string, std::string> place_of(const std::string& column) {
  const auto slash = column.find('/');
  if (slash == std::string::npos) return {column, ""};
  const std::string kind = column.substr(0, slash), rest = column.substr(slash + 1);
  if (kind == "train" || kind == "val") return {rest, kind};
  if (kind == "x") return {"learning rate", rest};
  return {rest, ""};
}

}  // namespace

void plot_charts(std::span<const Chart> charts, int columns, const std::string& path) {
  constexpr int kWidth = 340, kHeight = 280, kMargin = 12;
  const int count = std::max<int>(1, static_cast<int>(charts.size()));
  columns = std::clamp(columns, 1, count);
  const int rows = (count + columns - 1) / columns;
  Canvas canvas(columns * kWidth + 2 * kMargin, rows * kHeight + 2 * kMargin);
  for (int i = 0; i < static_cast<int>(charts.size()); ++i) {
    const Area area{static_cast<double>(kMargin + i % columns * kWidth) + 4,
                    static_cast<double>(kMargin + i / columns * kHeight) + 4, kWidth - 8.0,
                    kHeight - 8.0};
    draw_chart(canvas, area, charts[static_cast<std::size_t>(i)]);
  }
  canvas.save(path);
}

std::vector<Chart> result_charts(const ResultsTable& table) {
  std::vector<Chart> charts;
  std::map<std::string, std::size_t> places;
  for (std::size_t c = 1; c < table.columns.size(); ++c) {
    const auto [title, name] = place_of(table.columns[c]);
    const auto [place, fresh] = places.try_emplace(title, charts.size());
    if (fresh) charts.push_back({.title = title, .x_label = table.columns[0], .series = {}});
    Series series{.name = name};
    for (const auto& row : table.rows) {
      if (c >= row.size()) continue;
      series.x.push_back(row[0]);
      series.y.push_back(row[c]);
    }
    charts[place->second].series.push_back(std::move(series));
  }
  return charts;
}

void plot_results(const ResultsTable& table, const std::string& path) {
  const auto charts = result_charts(table);
  const auto columns =
      static_cast<int>(std::ceil(std::sqrt(static_cast<double>(charts.size()) * 1.6)));
  plot_charts(charts, columns, path);
}

void plot_curve(const DetectionScores& scores, Curve curve,
                std::span<const std::string> class_names, const std::string& path) {
  constexpr int kWidth = 960, kHeight = 640;
  static const Axes::Labels kLabels[] = {{"Precision over recall, IoU 0.5", "recall", "precision"},
                                         {"F1 over confidence", "confidence", "F1"},
                                         {"Precision over confidence", "confidence", "precision"},
                                         {"Recall over confidence", "confidence", "recall"}};
  const bool named = scores.classes.size() <= kNamedClasses;
  std::vector<double> x(kCurvePoints), mean;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) / (kCurvePoints - 1);
  for (const ClassCurves& c : scores.curves) {
    const auto& y = points_of(c, curve);
    mean.resize(y.size(), 0.0);
    for (std::size_t i = 0; i < y.size(); ++i) {
      mean[i] += y[i] / static_cast<double>(scores.curves.size());
    }
  }
  std::vector<LegendEntry> entries;
  constexpr Color kMean{20, 20, 20};
  entries.push_back({summary(scores, curve, mean), kMean, 3});
  for (std::size_t i = 0; named && i < scores.classes.size(); ++i) {
    const std::string name = fitted(name_of(class_names, scores.classes[i].class_id), 130, 10);
    entries.push_back(
        {curve == Curve::PrecisionByRecall ? with_number(name, scores.classes[i].ap50) : name,
         series_color(i), 1.5});
  }
  Canvas canvas(kWidth, kHeight);
  const Area legend = legend_size(entries);
  Axes axes(canvas, {12, 12, kWidth - legend.width - 36, kHeight - 24}, {0, 1}, {0, 1.02},
            kLabels[static_cast<int>(curve)]);
  for (std::size_t i = 0; i < scores.curves.size(); ++i) {
    axes.draw(x, points_of(scores.curves[i], curve), named ? series_color(i) : Color{190, 200, 210},
              named ? 1.1 : 0.8);
  }
  axes.draw(x, mean, kMean, 2.6);
  draw_legend(canvas, {kWidth - legend.width - 14, 40}, entries);
  canvas.save(path);
}

}  // namespace brim
