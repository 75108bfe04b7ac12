#pragma once

#include <string>
#include <vector>

#include "brim/train/objective.h"

namespace brim {

struct ClassificationLossOptions {
  double label_smoothing = 0.0;  ///< share of a label spread over all classes, [0, 1)
};

/// Cross entropy of the logits with the smoothed labels (Szegedy et al. 2016), summed over images.
class ClassificationLoss : public Objective {
 public:
  explicit ClassificationLoss(ClassificationLossOptions options = {});
  /// The component is the mean over images. Throws Error for a class id outside the logits.
  LossResult loss(const NetworkOutput& output, const TensorBatch& batch) override;
  std::vector<std::string> component_names() const override;

 private:
  ClassificationLossOptions options_;
};

}  // namespace brim
