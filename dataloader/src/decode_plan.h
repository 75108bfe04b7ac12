#pragma once

#include <cstdint>
#include <optional>

#include "brim/dataloader/decode.h"
#include "decode_orient.h"

namespace brim::detail {

/// Sizes of one decode, upright.
struct DecodePlan {
  int denominator = 1;                      ///< DCT scale of a JPEG
  int scaled_width = 0, scaled_height = 0;  ///< after it
  int full_width = 0, full_height = 0;      ///< after the reduction to the wanted size
  bool reduces() const { return full_width != scaled_width || full_height != scaled_height; }
};

enum class DctScaling : std::uint8_t { No, Yes };

/// Chooses scale and size by the image's size and the request alone.
DecodePlan plan_decode(int width, int height, const DecodeRequest& request, DctScaling scaling);

/// Pixels of a `width` x `height` image that `region` touches, at least one.
Rect to_pixels(const RegionF& region, int width, int height);

/// One line for people, e.g. "jpeg at 1/2, then area to 640x480".
std::string describe_plan(const DecodePlan& plan, const std::string& decoder, int orientation);

}  // namespace brim::detail
