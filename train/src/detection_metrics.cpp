#include "brim/train/detection_metrics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace brim {
namespace {

constexpr double kTiny = 1e-16;
constexpr int kRecallPoints = 101;

/// Piecewise linear interpolation of (xs, ys) at `x`, constant beyond the ends; `at` is where the
/// last search ended: calls come with growing `x`. Of several equal xs the last counts.
class Interpolator {
 public:
  Interpolator(const std::vector<double>& xs, const std::vector<double>& ys) : xs_(xs), ys_(ys) {}
  double operator()(double x) {
    while (at_ + 1 < xs_.size() && xs_[at_ + 1] <= x) ++at_;
    if (at_ + 1 == xs_.size() || x < xs_[at_]) return ys_[at_];
    const double slope = (ys_[at_ + 1] - ys_[at_]) / (xs_[at_ + 1] - xs_[at_]);
    return slope * (x - xs_[at_]) + ys_[at_];
  }

 private:
  const std::vector<double>& xs_;
  const std::vector<double>& ys_;
  std::size_t at_ = 0;
};

/// Precision made falling over recall, with both ends closed.
struct Envelope {
  std::vector<double> recall, precision;
  Envelope(const std::vector<double>& recalls, const std::vector<double>& precisions) {
    recall.push_back(0);
    recall.insert(recall.end(), recalls.begin(), recalls.end());
    recall.push_back(1);
    precision.push_back(1);
    precision.insert(precision.end(), precisions.begin(), precisions.end());
    precision.push_back(0);
    for (std::size_t i = precision.size() - 1; i > 0; --i) {
      precision[i - 1] = std::max(precision[i - 1], precision[i]);
    }
  }
  /// Area by the trapezoid rule over 101 recalls, as COCO samples it.
  double average_precision() const {
    Interpolator at(recall, precision);
    double area = 0, before = at(0);
    for (int i = 1; i < kRecallPoints; ++i) {
      const double here = at(i / (kRecallPoints - 1.0));
      area += (before + here) / 2 / (kRecallPoints - 1);
      before = here;
    }
    return area;
  }
};

/// The detections of one class, best first.
struct Ranked {
  std::vector<double> falling{};  ///< -confidence, so that it grows
  std::vector<std::uint16_t> correct{};
};

void recall_and_precision(const Ranked& ranked, int threshold, std::int64_t labels,
                          std::vector<double>& recall, std::vector<double>& precision) {
  recall.clear();
  precision.clear();
  double hits = 0;
  for (std::size_t i = 0; i < ranked.correct.size(); ++i) {
    hits += (ranked.correct[i] >> threshold) & 1;
    recall.push_back(hits / (static_cast<double>(labels) + kTiny));
    precision.push_back(hits / static_cast<double>(i + 1));
  }
}

/// `values` by falling confidence, at evenly spaced confidences; `above` beyond the best one.
std::vector<double> by_confidence(const Ranked& ranked, const std::vector<double>& values,
                                  double above) {
  std::vector<double> curve(kCurvePoints);
  Interpolator at(ranked.falling, values);
  for (int i = kCurvePoints - 1; i >= 0; --i) {  // -confidence grows
    const double x = -static_cast<double>(i) / (kCurvePoints - 1);
    curve[static_cast<std::size_t>(i)] = x < ranked.falling.front() ? above : at(x);
  }
  return curve;
}

void score_class(const Ranked& ranked, ClassScores& scores, ClassCurves& curves) {
  std::vector<double> recall, precision;
  for (int t = 0; t < kIouThresholds; ++t) {
    recall_and_precision(ranked, t, scores.labels, recall, precision);
    const Envelope envelope(recall, precision);
    scores.ap[static_cast<std::size_t>(t)] = envelope.average_precision();
    if (t > 0) continue;
    curves.recall = by_confidence(ranked, recall, 0);
    curves.precision = by_confidence(ranked, precision, 1);
    Interpolator at(envelope.recall, envelope.precision);
    for (int i = 0; i < kCurvePoints; ++i) {
      curves.precision_by_recall[static_cast<std::size_t>(i)] =
          at(static_cast<double>(i) / (kCurvePoints - 1));
    }
    for (std::size_t i = 0; i < curves.f1.size(); ++i) {
      const double p = curves.precision[i], r = curves.recall[i];
      curves.f1[i] = 2 * p * r / (p + r + kTiny);
    }
  }
  scores.ap50 = scores.ap[0];
  scores.ap50_95 = std::accumulate(scores.ap.begin(), scores.ap.end(), 0.0) / kIouThresholds;
}

/// Place of the highest point of the mean curve after a moving average over a tenth of it, ends
/// continued.
std::size_t smooth_maximum(const std::vector<ClassCurves>& curves) {
  std::vector<double> mean(kCurvePoints, 0.0);
  for (const ClassCurves& c : curves) {
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += c.f1[i];
  }
  constexpr int kHalf = kCurvePoints / 20;
  std::size_t best = 0;
  double highest = -1;
  for (int i = 0; i < kCurvePoints; ++i) {
    double sum = 0;
    for (int j = i - kHalf; j <= i + kHalf; ++j) {
      sum += mean[static_cast<std::size_t>(std::clamp(j, 0, kCurvePoints - 1))];
    }
    if (sum > highest + 1e-12 * std::abs(highest)) {
      highest = sum;
      best = static_cast<std::size_t>(i);
    }
  }
  return best;
}

}  // namespace

DetectionMetrics::DetectionMetrics(int classes) : labels_(static_cast<std::size_t>(classes), 0) {}

void DetectionMetrics::add(std::span<const Detection> detections,
                           std::span<const LabelledBox> labels) {
  found_.push_back(static_cast<std::uint32_t>(detections.size()));
  for (const LabelledBox& label : labels) labels_.at(static_cast<std::size_t>(label.class_id)) += 1;
  const auto correct = match_detections(detections, labels);
  for (std::size_t i = 0; i < detections.size(); ++i) {
    Entry entry{};
    entry.confidence = detections[i].confidence;
    entry.correct = correct[i] & ((1u << kIouThresholds) - 1);
    entry.class_id = static_cast<std::uint32_t>(detections[i].class_id) & ((1u << 22) - 1);
    entries_.push_back(entry);
  }
}

void DetectionMetrics::merge(const DetectionMetrics& other) {
  entries_.insert(entries_.end(), other.entries_.begin(), other.entries_.end());
  for (std::size_t i = 0; i < labels_.size(); ++i) labels_[i] += other.labels_.at(i);
  found_.insert(found_.end(), other.found_.begin(), other.found_.end());
}

std::vector<std::int64_t> DetectionMetrics::pack() const {
  std::vector<std::int64_t> numbers{static_cast<std::int64_t>(found_.size())};
  numbers.insert(numbers.end(), found_.begin(), found_.end());
  numbers.insert(numbers.end(), labels_.begin(), labels_.end());
  for (const Entry& entry : entries_) numbers.push_back(std::bit_cast<std::int64_t>(entry));
  return numbers;
}

DetectionMetrics DetectionMetrics::interleave(int classes,
                                              std::span<const std::vector<std::int64_t>> packed) {
  struct Reader {
    std::int64_t images;
    const std::int64_t* found;
    const std::int64_t* next;
  };
  DetectionMetrics all(classes);
  std::vector<Reader> readers;
  std::int64_t most = 0;
  for (const std::vector<std::int64_t>& numbers : packed) {
    const std::int64_t images = numbers.at(0);
    const std::int64_t* labels = numbers.data() + 1 + images;
    for (std::size_t c = 0; c < all.labels_.size(); ++c) all.labels_[c] += labels[c];
    readers.push_back({images, numbers.data() + 1, labels + classes});
    most = std::max(most, images);
  }
  for (std::int64_t image = 0; image < most; ++image) {
    for (Reader& reader : readers) {
      if (image >= reader.images) continue;
      all.found_.push_back(static_cast<std::uint32_t>(reader.found[image]));
      for (std::int64_t i = 0; i < reader.found[image]; ++i)
        all.entries_.push_back(std::bit_cast<Entry>(*reader.next++));
    }
  }
  return all;
}

DetectionScores DetectionMetrics::compute() const {
  std::vector<Entry> sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Entry& a, const Entry& b) { return a.confidence > b.confidence; });
  std::vector<Ranked> ranked(labels_.size());
  for (const Entry& entry : sorted) {
    if (entry.class_id >= ranked.size()) continue;
    Ranked& r = ranked[entry.class_id];
    r.falling.push_back(-static_cast<double>(entry.confidence));
    r.correct.push_back(static_cast<std::uint16_t>(entry.correct));
  }
  DetectionScores result;
  result.images = static_cast<std::int64_t>(found_.size());
  for (std::size_t c = 0; c < labels_.size(); ++c) {
    if (labels_[c] == 0) continue;
    result.labels += labels_[c];
    ClassScores scores{.class_id = static_cast<std::int32_t>(c), .labels = labels_[c]};
    const std::vector<double> flat(kCurvePoints, 0.0);
    ClassCurves curves{scores.class_id, flat, flat, flat, flat};
    if (!ranked[c].falling.empty()) score_class(ranked[c], scores, curves);
    result.classes.push_back(scores);
    result.curves.push_back(std::move(curves));
  }
  if (result.classes.empty()) return result;
  const std::size_t best = smooth_maximum(result.curves);
  result.best_confidence = static_cast<double>(best) / (kCurvePoints - 1);
  const auto count = static_cast<double>(result.classes.size());
  for (std::size_t i = 0; i < result.classes.size(); ++i) {
    ClassScores& scores = result.classes[i];
    scores.precision = result.curves[i].precision[best];
    scores.recall = result.curves[i].recall[best];
    scores.f1 = result.curves[i].f1[best];
    result.precision += scores.precision / count;
    result.recall += scores.recall / count;
    result.map50 += scores.ap50 / count;
    result.map50_95 += scores.ap50_95 / count;
  }
  return result;
}

}  // namespace brim
