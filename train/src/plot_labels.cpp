#include <algorithm>
#include <cmath>

#include "plot_axes.h"

namespace brim {
namespace {

using namespace plotting;

constexpr int kBins = LabelStatistics::kBins;
constexpr std::size_t kExamples = 400;

int bin(float fraction) {
  return std::clamp(static_cast<int>(fraction * static_cast<float>(kBins)), 0, kBins - 1);
}

void draw_classes(Canvas& canvas, const Area& area, const LabelStatistics& s,
                  std::span<const std::string> names) {
  std::int64_t most = 1;
  for (const auto count : s.per_class) most = std::max(most, count);
  const auto n = static_cast<double>(std::max<std::size_t>(s.per_class.size(), 1));
  const bool named = n <= 30;
  const Area plot{area.x, area.y, area.width, area.height - (named ? 70 : 0)};
  Axes axes(canvas, plot, {-0.5, n - 0.5}, {0, static_cast<double>(most) * 1.08},
            {"Boxes per class", named ? "" : "class", "", !named});
  for (std::size_t i = 0; i < s.per_class.size(); ++i) {
    const auto c = static_cast<double>(i);
    const Point low = axes.at(c - 0.4, 0);
    const Point high = axes.at(c + 0.4, static_cast<double>(s.per_class[i]));
    canvas.fill({low.x, high.y, high.x - low.x, low.y - high.y}, series_color(i));
    if (!named) continue;
    const std::string name = fitted(i < names.size() ? names[i] : std::to_string(i), 74, 10);
    const double x = (low.x + high.x) / 2;
    canvas.upward_text(name, {x, low.y + 8 + Canvas::text_width(name, 10) / 2}, 10, kInk);
    if (n <= 12) {
      canvas.text(std::to_string(s.per_class[i]), {x, high.y - 7}, 9, kSoft, Align::Middle);
    }
  }
}

void draw_density(Canvas& canvas, const Area& area, const std::vector<std::int64_t>& bins,
                  const Axes::Labels& labels, const Range& y_axis) {
  Axes axes(canvas, area, {0, 1}, y_axis, labels);
  std::int64_t most = 1;
  for (const auto count : bins) most = std::max(most, count);
  const double w = axes.plot().width / kBins, h = axes.plot().height / kBins;
  for (int y = 0; y < kBins; ++y) {
    for (int x = 0; x < kBins; ++x) {
      const auto count = bins[static_cast<std::size_t>(y * kBins + x)];
      if (count == 0) continue;
      const double t =
          std::log1p(static_cast<double>(count)) / std::log1p(static_cast<double>(most));
      const auto mix = [&](double a, double b) {
        return static_cast<std::uint8_t>(a + (b - a) * t);
      };
      const int row = y_axis.low > y_axis.high ? y : kBins - 1 - y;
      canvas.fill({axes.plot().x + x * w, axes.plot().y + row * h, w, h},
                  {mix(205, 8), mix(225, 48), mix(245, 107)});
    }
  }
}

void draw_examples(Canvas& canvas, const Area& area, const LabelStatistics& s) {
  constexpr double kEdge = 0.5;
  const double side = std::min(area.width, area.height - 34) - 8;
  const Area frame{area.x + (area.width - side) / 2, area.y + 28, side, side};
  canvas.text("Box shapes, centred", {frame.x + side / 2, area.y + 13}, 13, kInk, Align::Middle,
              true);
  canvas.outline(frame, kSoft, 0.7);
  for (const Box& b : s.examples) {
    const double w = std::min<double>(static_cast<double>(b.width), 1) * side;
    const double h = std::min<double>(static_cast<double>(b.height), 1) * side;
    const Color color = series_color(static_cast<std::size_t>(std::max(b.class_id, 0)));
    const double x = frame.x + (side - w) / 2, y = frame.y + (side - h) / 2;
    for (const Area& edge : {Area{x, y, w, kEdge}, Area{x, y + h, w, kEdge}, Area{x, y, kEdge, h},
                             Area{x + w, y, kEdge, h}}) {
      canvas.fill(edge, color, 0.3);
    }
  }
}

}  // namespace

LabelStatistics label_statistics(const Dataset& dataset) {
  LabelStatistics s;
  s.per_class.assign(dataset.class_names().size(), 0);
  s.centers.assign(std::size_t{kBins} * kBins, 0);
  s.sizes.assign(std::size_t{kBins} * kBins, 0);
  s.images = dataset.size();
  RecordScratch scratch;
  std::int64_t every = 1;  // doubled whenever the examples are full, half of which then go
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Record record = dataset.record(i, scratch);
    s.without_boxes += record.boxes.empty();
    for (const Box& b : record.boxes) {
      if (b.class_id >= 0 && static_cast<std::size_t>(b.class_id) < s.per_class.size()) {
        s.per_class[static_cast<std::size_t>(b.class_id)] += 1;
      }
      s.centers[static_cast<std::size_t>(bin(b.cy) * kBins + bin(b.cx))] += 1;
      s.sizes[static_cast<std::size_t>(bin(b.height) * kBins + bin(b.width))] += 1;
      if (s.boxes++ % every != 0) continue;
      s.examples.push_back(b);
      if (s.examples.size() < 2 * kExamples) continue;
      for (std::size_t k = 0; k < kExamples; ++k) s.examples[k] = s.examples[2 * k];
      s.examples.resize(kExamples);
      every *= 2;
    }
  }
  return s;
}

void plot_labels(const LabelStatistics& statistics, std::span<const std::string> class_names,
                 const std::string& path) {
  constexpr int kWidth = 960, kHeight = 900;
  Canvas canvas(kWidth, kHeight);
  canvas.text(std::to_string(statistics.boxes) + " boxes in " + std::to_string(statistics.images) +
                  " images, " + std::to_string(statistics.without_boxes) + " of them empty",
              {kWidth / 2.0, 18}, 13, kSoft, Align::Middle);
  const double w = kWidth / 2.0 - 24, h = kHeight / 2.0 - 34;
  draw_classes(canvas, {16, 36, w, h}, statistics, class_names);
  draw_examples(canvas, {kWidth / 2.0 + 8, 36, w, h}, statistics);
  draw_density(canvas, {16, h + 54, w, h}, statistics.centers, {"Where the centres are", "x", "y"},
               {1, 0});
  draw_density(canvas, {kWidth / 2.0 + 8, h + 54, w, h}, statistics.sizes,
               {"How large they are", "width", "height"}, {0, 1});
  canvas.save(path);
}

}  // namespace brim
