#pragma once

#include <memory>
#include <vector>

#include "brim/train/layers.h"
#include "model_yaml.h"
#include "yolo_detect.h"

namespace brim::detail {

/// What a row does when the network runs.
struct YoloRow {
  enum class Kind { Layers, Upsample, Concat, Detect };
  Kind kind = Kind::Layers;
  std::vector<int> from{};  ///< absolute row numbers; -1: the image
  std::vector<std::shared_ptr<Layer>> layers{};
  std::int64_t scale = 1;  ///< Upsample
  bool kept = false;       ///< a row other than the next one reads the result
};

struct YoloParts {
  std::vector<YoloRow> rows{};
  torch::nn::ModuleList model{};  ///< children "0", "1", ... as in the state_dict
  std::shared_ptr<DetectHead> head{};
};

/// Applies depth and width to `spec` and makes its modules. Throws Error naming the row at fault.
YoloParts build_yolo(const ModelSpec& spec, int classes);

}  // namespace brim::detail
