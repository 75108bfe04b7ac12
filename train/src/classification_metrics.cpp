#include "brim/train/classification_metrics.h"

#include <stdexcept>

namespace brim {

ClassificationMetrics::ClassificationMetrics(int classes)
    : classes_(classes),
      confusion_(static_cast<std::size_t>(classes) * static_cast<std::size_t>(classes), 0) {}

void ClassificationMetrics::add(const torch::Tensor& logits, const torch::Tensor& class_ids) {
  const auto scores = logits.detach().to(torch::kCPU, torch::kFloat).contiguous();
  const auto ids = class_ids.to(torch::kCPU, torch::kLong).contiguous();
  if (scores.dim() != 2 || scores.size(1) != classes_ || scores.size(0) != ids.numel()) {
    throw std::invalid_argument("classification metrics: logits are not [N, " +
                                std::to_string(classes_) + "]");
  }
  for (std::int64_t i = 0; i < scores.size(0); ++i) {
    const float* row = scores.data_ptr<float>() + i * classes_;
    const auto truth = static_cast<int>(ids.data_ptr<std::int64_t>()[i]);
    if (truth < 0 || truth >= classes_) {
      throw std::invalid_argument("classification metrics: class id out of range");
    }
    int best = 0, before = 0;  // classes that rank before the true one
    for (int c = 0; c < classes_; ++c) {
      if (row[c] > row[best]) best = c;
      before += row[c] > row[truth] || (row[c] == row[truth] && c < truth);
    }
    // A NaN outranks nothing and must not count as found.
    in_top5_ += before < 5 && row[truth] == row[truth];
    confusion_[static_cast<std::size_t>(best * classes_ + truth)] += 1;
  }
}

void ClassificationMetrics::merge(const ClassificationMetrics& other) {
  for (std::size_t i = 0; i < confusion_.size(); ++i) confusion_[i] += other.confusion_.at(i);
  in_top5_ += other.in_top5_;
}

std::vector<std::int64_t> ClassificationMetrics::counts() const {
  std::vector<std::int64_t> counts = confusion_;
  counts.push_back(in_top5_);
  return counts;
}

void ClassificationMetrics::set_counts(const std::vector<std::int64_t>& counts) {
  confusion_.assign(counts.begin(), counts.end() - 1);
  in_top5_ = counts.back();
}

std::int64_t ClassificationMetrics::confusion(int predicted, int truth) const {
  return confusion_.at(static_cast<std::size_t>(predicted * classes_ + truth));
}

ClassificationScores ClassificationMetrics::compute() const {
  ClassificationScores result;
  if (classes_ <= kConfusionClasses) result.confusion = confusion_;
  std::int64_t hits = 0;
  for (int truth = 0; truth < classes_; ++truth) {
    std::int64_t images = 0;
    for (int predicted = 0; predicted < classes_; ++predicted) {
      images += confusion(predicted, truth);
    }
    const std::int64_t right = confusion(truth, truth);
    hits += right;
    result.images += images;
    result.class_images.push_back(images);
    result.class_top1.push_back(
        images > 0 ? static_cast<double>(right) / static_cast<double>(images) : 0.0);
  }
  if (result.images > 0) {
    result.top1 = static_cast<double>(hits) / static_cast<double>(result.images);
    result.top5 = static_cast<double>(in_top5_) / static_cast<double>(result.images);
  }
  return result;
}

}  // namespace brim
