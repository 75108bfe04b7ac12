#pragma once

#include "augment_simd.h"
#include "brim/dataloader/random.h"
#include "pixel_row.h"

namespace brim::detail {

/// Gains on hue, saturation and value; (1, 1, 1) changes nothing.
struct ColourGains {
  float hue = 1, saturation = 1, value = 1;
  bool identity() const { return hue == 1 && saturation == 1 && value == 1; }
};

/// Gains 1 + uniform(-1, 1) * fraction, as YOLOv5's hsv_h, hsv_s, hsv_v mean them.
ColourGains draw_gains(Generator& generator, double h, double s, double v);

/// Writes pixels [begin, end) of `row` as interleaved RGB with hue (mod a full turn), saturation
/// and value (both limited to 1) multiplied; `out` is the first byte of the whole row. HSV is that
/// of Smith (1978), in fixed point finer than the 8-bit steps that cv::cvtColor makes between; the
/// same bytes for every `isa`.
void write_coloured(const ColourGains& gains, const PixelRow& row, int begin, int end,
                    std::uint8_t* out, Isa isa);

/// What write_coloured makes of (value, value, value).
std::uint8_t coloured_grey(const ColourGains& gains, std::uint8_t value);

}  // namespace brim::detail
