#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include "brim/dataloader/letterbox.h"
#include "brim/dataloader/transform.h"

namespace brim {

/// A box by centre and size.
struct CenterBox {
  float cx = 0, cy = 0, width = 0, height = 0;
  bool operator==(const CenterBox&) const = default;
};

BoxF to_corners(const CenterBox& box);
CenterBox to_center(const BoxF& rect);
/// A box found in a sample, in pixels of the original image it was placed from, clipped to it.
BoxF to_original(const BoxF& in_sample, const Placement& placement);

/// IoU; GIoU (Rezatofighi et al. 2019); DIoU and CIoU (Zheng et al. 2020).
enum class Overlap { IoU, GIoU, DIoU, CIoU };

/// Overlap of two boxes; the constant 1e-7 keeps every quotient finite.
float overlap(const CenterBox& a, const CenterBox& b, Overlap kind = Overlap::IoU);
/// Plain IoU of two boxes by corners, 0 where they are apart or empty.
float iou(const BoxF& a, const BoxF& b);

/// Overlap of row i of `a` with row i of `b`: [N, 4] centre boxes to [N]. Differentiable on any
/// device; CIoU's trade-off weight is held constant, as its authors define it.
torch::Tensor overlap(const torch::Tensor& a, const torch::Tensor& b, Overlap kind);

/// CIoU of `box` with `target` and its derivative by cx, cy, width, height of `box`.
float ciou_with_gradient(const CenterBox& box, const CenterBox& target, float gradient[4]);

}  // namespace brim
