#include <algorithm>

#include "brim/train/detection_metrics.h"

namespace brim {

float iou_threshold(int index) {
  return 0.5f + 0.05f * static_cast<float>(index);
}

std::vector<std::uint16_t> match_detections(std::span<const Detection> detections,
                                            std::span<const LabelledBox> labels) {
  std::vector<std::uint16_t> correct(detections.size(), 0);
  std::vector<std::uint16_t> taken(labels.size(), 0);  // bit per threshold
  for (std::size_t d = 0; d < detections.size(); ++d) {
    float best = 0;
    std::size_t label = labels.size();
    for (std::size_t l = 0; l < labels.size(); ++l) {
      if (labels[l].class_id != detections[d].class_id) continue;
      const float value = iou(labels[l].box, detections[d].box);
      if (value > best) {
        best = value;
        label = l;
      }
    }
    if (label == labels.size()) continue;
    std::uint16_t reached = 0;
    for (int t = 0; t < kIouThresholds && best >= iou_threshold(t); ++t) {
      reached = static_cast<std::uint16_t>(reached | (1 << t));
    }
    correct[d] = static_cast<std::uint16_t>(reached & ~taken[label]);
    taken[label] = static_cast<std::uint16_t>(taken[label] | reached);
  }
  return correct;
}

ConfusionMatrix::ConfusionMatrix(int classes, double confidence, double iou)
    : classes_(classes),
      confidence_(static_cast<float>(confidence)),
      iou_(static_cast<float>(iou)),
      counts_(static_cast<std::size_t>(classes + 1) * static_cast<std::size_t>(classes + 1), 0) {}

void ConfusionMatrix::add(std::span<const Detection> detections,
                          std::span<const LabelledBox> labels) {
  struct Pair {
    float iou;
    std::size_t label, detection;
  };
  std::vector<Pair> pairs;
  for (std::size_t l = 0; l < labels.size(); ++l) {
    for (std::size_t d = 0; d < detections.size(); ++d) {
      if (!(detections[d].confidence > confidence_)) continue;
      const float value = iou(labels[l].box, detections[d].box);
      if (value > iou_) pairs.push_back({value, l, d});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair& a, const Pair& b) { return a.iou > b.iou; });
  std::vector<bool> found(labels.size()), used(detections.size()), seen(detections.size());
  const auto count = [&](int predicted, int truth) {
    counts_[static_cast<std::size_t>(predicted * (classes_ + 1) + truth)] += 1;
  };
  for (const Pair& pair : pairs) {
    // A detection stands for the label it overlaps most, even where a better one has taken that.
    if (seen[pair.detection]) continue;
    seen[pair.detection] = true;
    if (found[pair.label]) continue;
    found[pair.label] = true;
    used[pair.detection] = true;
    count(detections[pair.detection].class_id, labels[pair.label].class_id);
  }
  for (std::size_t l = 0; l < labels.size(); ++l) {
    if (!found[l]) count(classes_, labels[l].class_id);
  }
  for (std::size_t d = 0; d < detections.size(); ++d) {
    if (!used[d] && detections[d].confidence > confidence_) count(detections[d].class_id, classes_);
  }
}

void ConfusionMatrix::merge(const ConfusionMatrix& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_.at(i);
}

std::int64_t ConfusionMatrix::at(int predicted, int truth) const {
  return counts_.at(static_cast<std::size_t>(predicted * (classes_ + 1) + truth));
}

}  // namespace brim
