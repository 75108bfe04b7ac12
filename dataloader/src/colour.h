#pragma once

#include "augment_simd.h"
#include "brim/dataloader/random.h"
#include "warp_kernels.h"

namespace brim::detail {

/// Gains on hue, saturation and value; (1, 1, 1) changes nothing.
struct ColourGains {
  float hue = 1, saturation = 1, value = 1;
  bool identity() const { return hue == 1 && saturation == 1 && value == 1; }
};

/// Gains 1 + uniform(-1, 1) * fraction, as YOLOv5's hsv_h, hsv_s, hsv_v mean them.
ColourGains draw_gains(Generator& generator, double h, double s, double v);

/// Multiplies hue (mod a full turn), saturation and value (both limited to 1) of each pixel.
/// HSV is that of Smith (1978), in fixed point finer than the 8-bit steps that cv::cvtColor makes
/// between; the same bytes for every `isa`.
void apply_colour(const ColourGains& gains, Pixel* row, int count, Isa isa);

}  // namespace brim::detail
