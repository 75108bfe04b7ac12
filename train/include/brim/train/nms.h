#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <span>
#include <vector>

#include "brim/train/boxes.h"

namespace brim {

/// One object found, in pixels of the sample.
struct Detection {
  BoxF box{};
  float confidence = 0;
  std::int32_t class_id = 0;
};

/// Settings of non-maximum suppression; the defaults are those of prediction. Validation uses
/// confidence 0.001, iou 0.6 and multi_label.
struct NmsOptions {
  double confidence = 0.25;  ///< least objectness and least objectness * class
  double iou = 0.45;         ///< boxes that overlap a better one by more are dropped
  int max_detections = 300;  ///< per image
  int max_candidates = 30000;
  bool multi_label = false;  ///< one box may be several classes
  bool agnostic = false;     ///< boxes of different classes suppress each other too
};

/// Greedy non-maximum suppression of decoded predictions [N, boxes, 5 + C] (cx, cy, w, h,
/// objectness, classes; any device and floating type). One list per image, best first; equal
/// confidences keep the order of the boxes. There is no time limit, so no image is ever dropped.
std::vector<std::vector<Detection>> non_maximum_suppression(const torch::Tensor& predictions,
                                                            const NmsOptions& options = {});

/// The same for candidates of one image, in any order.
std::vector<Detection> suppress(std::vector<Detection> candidates, const NmsOptions& options);

}  // namespace brim
