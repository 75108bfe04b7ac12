#include "brim/train/anchors.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "brim/dataloader/random.h"
#include "kmeans.h"

namespace brim {
namespace {

/// The worse of both sides' ratios, 1 for equal sizes.
float closeness(const BoxSize& label, const BoxSize& anchor) {
  const float w = label.width / anchor.width, h = label.height / anchor.height;
  return std::min(std::min(w, 1 / w), std::min(h, 1 / h));
}

void sort_by_area(std::vector<BoxSize>& anchors) {
  std::stable_sort(anchors.begin(), anchors.end(), [](const BoxSize& a, const BoxSize& b) {
    return a.width * a.height < b.width * b.height;
  });
}

double gaussian(Generator& random) {  // Box and Muller 1958
  const double u = 1 - random.uniform(), v = random.uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
}

/// Anchors with some sides scaled by random factors in [0.3, 3]; at least one changes.
std::vector<BoxSize> mutate(const std::vector<BoxSize>& anchors, Generator& random) {
  constexpr double kProbability = 0.9, kDeviation = 0.1;
  std::vector<BoxSize> result = anchors;
  bool changed = false;
  while (!changed) {
    const double strength = random.uniform();
    for (BoxSize& a : result) {
      for (float* side : {&a.width, &a.height}) {
        if (!random.chance(kProbability)) continue;
        const double factor = std::clamp(strength * gaussian(random) * kDeviation + 1, 0.3, 3.0);
        *side = std::max(static_cast<float>(*side * factor), 2.0f);
        changed = changed || factor != 1;
      }
    }
  }
  return result;
}

std::vector<BoxSize> evenly(std::span<const BoxSize> labels, std::size_t most) {
  std::vector<BoxSize> result;
  const std::size_t step = std::max<std::size_t>(1, (labels.size() + most - 1) / most);
  for (std::size_t i = 0; i < labels.size(); i += step) result.push_back(labels[i]);
  return result;
}

}  // namespace

std::vector<BoxSize> label_sizes(const Dataset& dataset, int image_size, std::int64_t max_labels) {
  std::vector<BoxSize> result;
  RecordScratch scratch;
  std::int64_t total = 0, seen = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    total += static_cast<std::int64_t>(dataset.record(i, scratch).boxes.size());
  }
  const std::int64_t every =
      std::max<std::int64_t>(1, (total + max_labels - 1) / std::max<std::int64_t>(max_labels, 1));
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Record record = dataset.record(i, scratch);
    const bool known = record.width > 0 && record.height > 0;
    const auto w = static_cast<float>(known ? record.width : 1);
    const auto h = static_cast<float>(known ? record.height : 1);
    const float scale = static_cast<float>(image_size) / std::max(w, h);
    for (const Box& box : record.boxes) {
      if (seen++ % every == 0) result.push_back({box.width * w * scale, box.height * h * scale});
    }
  }
  return result;
}

AnchorFit measure_anchors(std::span<const BoxSize> labels, std::span<const BoxSize> anchors,
                          double anchor_t) {
  AnchorFit fit;
  if (labels.empty()) return fit;
  const auto least = static_cast<float>(1 / anchor_t);
  std::int64_t reached = 0, pairs = 0;
  double sum = 0;
  for (const BoxSize& label : labels) {
    float best = 0;
    for (const BoxSize& anchor : anchors) {
      const float c = closeness(label, anchor);
      pairs += c > least;
      best = std::max(best, c);
    }
    if (best > least) {
      ++reached;
      sum += static_cast<double>(best);
    }
  }
  const auto count = static_cast<double>(labels.size());
  fit.recall = static_cast<double>(reached) / count;
  fit.per_label = static_cast<double>(pairs) / count;
  fit.fitness = sum / count;
  return fit;
}

std::vector<BoxSize> fit_anchors(std::span<const BoxSize> labels, int count,
                                 const AnchorOptions& options) {
  constexpr std::size_t kForMeans = 20000, kForGenerations = 4000;
  constexpr float kSmallest = 2;  // pixels; smaller labels are beyond any anchor
  std::vector<BoxSize> usable;
  for (const BoxSize& l : labels) {
    if (l.width > 0 && l.height > 0 && std::max(l.width, l.height) >= kSmallest)
      usable.push_back(l);
  }
  if (usable.empty() || count <= 0) return {};
  Generator random(options.seed, Purpose::User);
  auto best = detail::cluster_sizes(evenly(usable, kForMeans), count, random);
  for (BoxSize& a : best) {
    a = {std::max(a.width, kSmallest), std::max(a.height, kSmallest)};
  }
  const auto judged = evenly(usable, kForGenerations);
  double fitness = measure_anchors(judged, best, options.anchor_t).fitness;
  for (int i = 0; i < options.generations; ++i) {
    auto candidate = mutate(best, random);
    const double value = measure_anchors(judged, candidate, options.anchor_t).fitness;
    if (value > fitness) {
      fitness = value;
      best = std::move(candidate);
    }
  }
  sort_by_area(best);
  return best;
}

AnchorCheck check_anchors(Detector& detector, std::span<const BoxSize> labels,
                          const AnchorOptions& options) {
  const auto strides = detector.strides();
  const auto scaled = detector.anchors().detach().to(torch::kCPU, torch::kFloat).clone();
  const std::int64_t levels = scaled.size(0), per_level = scaled.size(1);
  AnchorCheck check;
  for (std::int64_t l = 0; l < levels; ++l) {
    const auto stride = static_cast<float>(strides.at(static_cast<std::size_t>(l)));
    for (std::int64_t a = 0; a < per_level; ++a) {
      check.anchors.push_back(
          {scaled[l][a][0].item<float>() * stride, scaled[l][a][1].item<float>() * stride});
    }
  }
  check.before = check.after = measure_anchors(labels, check.anchors, options.anchor_t);
  if (labels.empty() || check.before.recall > options.min_recall) return check;
  const auto fitted = fit_anchors(labels, static_cast<int>(levels * per_level), options);
  const AnchorFit fit = measure_anchors(labels, fitted, options.anchor_t);
  if (fitted.empty() || fit.recall <= check.before.recall) return check;
  for (std::int64_t i = 0; i < levels * per_level; ++i) {
    const auto stride = static_cast<float>(strides.at(static_cast<std::size_t>(i / per_level)));
    const BoxSize& a = fitted[static_cast<std::size_t>(i)];
    scaled[i / per_level][i % per_level][0] = a.width / stride;
    scaled[i / per_level][i % per_level][1] = a.height / stride;
  }
  detector.set_anchors(scaled);
  check.after = fit;
  check.replaced = true;
  check.anchors = fitted;
  return check;
}

}  // namespace brim
