#pragma once

#include <torch/torch.h>

#include "brim/dataloader/transform.h"

namespace brim {

/// A box by its corners, in whatever unit the caller works in (mostly pixels).
struct Rect {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  bool operator==(const Rect&) const = default;
};

/// A box by centre and size.
struct CenterBox {
  float cx = 0, cy = 0, width = 0, height = 0;
  bool operator==(const CenterBox&) const = default;
};

Rect to_corners(const CenterBox& box);
CenterBox to_center(const Rect& rect);
/// Every corner brought into [0, width] x [0, height].
Rect clip(const Rect& rect, float width, float height);
/// Fractions of a width x height picture to its pixels, shifted by a border.
Rect to_pixels(const CenterBox& fractions, float width, float height, float pad_x = 0,
               float pad_y = 0);
/// Pixels to fractions of a width x height picture, clipped to it first.
CenterBox to_fractions(const Rect& pixels, float width, float height);
/// A box found in a sample, in pixels of the original image it was placed from, clipped to it.
Rect to_original(const Rect& in_sample, const Placement& placement);

/// IoU; GIoU (Rezatofighi et al. 2019); DIoU and CIoU (Zheng et al. 2020).
enum class Overlap { IoU, GIoU, DIoU, CIoU };

/// Overlap of two boxes; the constant 1e-7 keeps every quotient finite.
float overlap(const CenterBox& a, const CenterBox& b, Overlap kind = Overlap::IoU);
/// Plain IoU of two boxes by corners, 0 where they are apart or empty.
float iou(const Rect& a, const Rect& b);

/// Overlap of row i of `a` with row i of `b`: [N, 4] centre boxes to [N]. Differentiable on any
/// device; CIoU's trade-off weight is held constant, as its authors define it.
torch::Tensor overlap(const torch::Tensor& a, const torch::Tensor& b, Overlap kind);

/// CIoU of `box` with `target` and its derivative by cx, cy, width, height of `box`.
float ciou_with_gradient(const CenterBox& box, const CenterBox& target, float gradient[4]);

}  // namespace brim
