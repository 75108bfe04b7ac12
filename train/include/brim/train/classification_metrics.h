#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <vector>

namespace brim {

/// Classes that confusions are listed and drawn of.
inline constexpr int kConfusionClasses = 2000;

/// Share of images whose class is the best, and among the five best, of the logits.
struct ClassificationScores {
  double top1 = 0, top5 = 0;
  std::int64_t images = 0;
  std::vector<double> class_top1{};  ///< per class; 0 for classes without images
  std::vector<std::int64_t> class_images{};
  /// [predicted * classes + true class]: images. Empty above kConfusionClasses classes.
  std::vector<std::int64_t> confusion{};
};

/// Counts batch by batch; memory is that of a confusion matrix.
class ClassificationMetrics {
 public:
  explicit ClassificationMetrics(int classes);
  /// `logits` [N, C], `class_ids` int64 [N], any device. A tie is decided for the smaller class.
  void add(const torch::Tensor& logits, const torch::Tensor& class_ids);
  void merge(const ClassificationMetrics& other);
  /// Every count, for whoever adds them up over processes, and back.
  std::vector<std::int64_t> counts() const;
  void set_counts(const std::vector<std::int64_t>& counts);
  ClassificationScores compute() const;
  /// Images of class `truth` that were taken for `predicted`.
  std::int64_t confusion(int predicted, int truth) const;
  int classes() const { return classes_; }

 private:
  int classes_;
  std::int64_t in_top5_ = 0;
  std::vector<std::int64_t> confusion_;
};

}  // namespace brim
