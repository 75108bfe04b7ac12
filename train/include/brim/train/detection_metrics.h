#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "brim/train/nms.h"

namespace brim {

/// A labelled box in the same pixels as the detections it is compared with.
struct LabelledBox {
  std::int32_t class_id = 0;
  BoxF box{};
};

/// IoU thresholds .5, .55 .. .95.
inline constexpr int kIouThresholds = 10;
float iou_threshold(int index);

/// Bit t of entry i is set where detection i is correct at iou_threshold(t): every detection
/// belongs to the label of its class that it overlaps most, every label to the first such
/// detection (the best, as non-maximum suppression orders them).
std::vector<std::uint16_t> match_detections(std::span<const Detection> detections,
                                            std::span<const LabelledBox> labels);

/// Quality of one class: precision, recall and F1 at the confidence that is best over all classes.
struct ClassScores {
  std::int32_t class_id = 0;
  std::int64_t labels = 0;
  double precision = 0, recall = 0, f1 = 0;
  double ap50 = 0, ap50_95 = 0;
  std::array<double, kIouThresholds> ap{};
};

/// Points of the curves over confidence (0..1) and recall (0..1), evenly spaced.
inline constexpr int kCurvePoints = 1000;
struct ClassCurves {
  std::int32_t class_id = 0;
  std::vector<double> precision{}, recall{}, f1{};  ///< by confidence, IoU .5
  std::vector<double> precision_by_recall{};        ///< envelope, IoU .5
};

struct DetectionScores {
  std::vector<ClassScores> classes{};  ///< classes that have labels, ascending
  std::vector<ClassCurves> curves{};   ///< the same classes
  double precision = 0, recall = 0;    ///< means over these classes
  double map50 = 0, map50_95 = 0;
  double best_confidence = 0;  ///< where the mean F1 is highest
  std::int64_t images = 0, labels = 0;
  /// What checkpoints are chosen by: 0.1 mAP50 + 0.9 mAP50-95.
  double fitness() const { return 0.1 * map50 + 0.9 * map50_95; }
};

/// Collects detections image by image, 8 bytes each, and computes the average precision (101-point
/// interpolation of the precision envelope) from all of them.
///
///   DetectionMetrics metrics(classes);
///   for (...) metrics.add(detections, labels);
///   const DetectionScores scores = metrics.compute();
class DetectionMetrics {
 public:
  explicit DetectionMetrics(int classes);
  void add(std::span<const Detection> detections, std::span<const LabelledBox> labels);
  /// Adds what another rank or thread has collected.
  void merge(const DetectionMetrics& other);
  /// All of it as numbers, to be sent to other processes.
  std::vector<std::int64_t> pack() const;
  /// What one process would have collected where `packed[r]` holds every R-th image from the r-th
  /// on, R being their number: the order of images, which decides between equal confidences, is
  /// that of one process.
  static DetectionMetrics interleave(int classes,
                                     std::span<const std::vector<std::int64_t>> packed);
  DetectionScores compute() const;

 private:
  struct Entry {
    float confidence;
    std::uint32_t correct : kIouThresholds, class_id : 22;
  };
  static_assert(sizeof(Entry) == 8);
  std::vector<Entry> entries_;
  std::vector<std::int64_t> labels_;
  std::vector<std::uint32_t> found_;  ///< detections per image
};

/// Which class was taken for which. The last row holds labels nothing was found for, the last
/// column detections where there is no label.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int classes, double confidence = 0.25, double iou = 0.45);
  void add(std::span<const Detection> detections, std::span<const LabelledBox> labels);
  void merge(const ConfusionMatrix& other);
  /// Every count, for whoever adds them up over processes.
  std::span<std::int64_t> counts() { return counts_; }
  int classes() const { return classes_; }
  /// Count of labels of class `truth` that were found as `predicted`; `classes()`: background.
  std::int64_t at(int predicted, int truth) const;

 private:
  int classes_;
  float confidence_, iou_;
  std::vector<std::int64_t> counts_;
};

}  // namespace brim
