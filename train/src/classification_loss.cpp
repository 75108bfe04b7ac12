#include <torch/nn/functional/loss.h>

#include "brim/train/classification_loss.h"

#include "brim/cache/error.h"

namespace brim {

ClassificationLoss::ClassificationLoss(ClassificationLossOptions options) : options_(options) {}

LossResult ClassificationLoss::loss(const NetworkOutput& output, const TensorBatch& batch) {
  const auto& logits = output.predictions;
  const auto& ids = batch.class_ids;
  if (ids.is_cpu() && ids.numel() > 0) {  // a look at the device would wait for it
    const auto low = ids.min().item<std::int64_t>(), high = ids.max().item<std::int64_t>();
    if (low < 0 || high >= logits.size(1)) {
      throw Error("class id " + std::to_string(low < 0 ? low : high) +
                  " of an image is outside 0.." + std::to_string(logits.size(1) - 1));
    }
  }
  const auto mean = torch::nn::functional::cross_entropy(
      logits.to(torch::kFloat), ids,
      torch::nn::functional::CrossEntropyFuncOptions().label_smoothing(options_.label_smoothing));
  return {mean * static_cast<double>(logits.size(0)), mean.detach().view({1})};
}

std::vector<std::string> ClassificationLoss::component_names() const {
  return {"loss"};
}

}  // namespace brim
