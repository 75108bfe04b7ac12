#include "decode_orient.h"

#include <cstring>

namespace brim::detail {
namespace {

/// Stored x (y) runs against the upright direction it lies in.
constexpr bool reverses_x(int orientation) {
  return orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
}
constexpr bool reverses_y(int orientation) {
  return orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
}

inline void copy_pixel(std::uint8_t* to, const std::uint8_t* from) {
  to[0] = from[0];
  to[1] = from[1];
  to[2] = from[2];
}

}  // namespace

Rect to_stored(const Rect& upright, int orientation, int stored_width, int stored_height) {
  Rect stored = upright;
  if (transposes(orientation)) stored = {upright.y, upright.x, upright.height, upright.width};
  if (reverses_x(orientation)) stored.x = stored_width - stored.x - stored.width;
  if (reverses_y(orientation)) stored.y = stored_height - stored.y - stored.height;
  return stored;
}

UprightWriter::UprightWriter(MutableImageView upright, int orientation) {
  const bool transposed = transposes(orientation);
  stored_width_ = transposed ? upright.height : upright.width;
  const int stored_height = transposed ? upright.width : upright.height;
  step_x_ = transposed ? upright.stride : 3;
  step_y_ = transposed ? 3 : upright.stride;
  origin_ = upright.data;
  if (reverses_x(orientation)) {
    origin_ += (stored_width_ - 1) * step_x_;
    step_x_ = -step_x_;
  }
  if (reverses_y(orientation)) {
    origin_ += (stored_height - 1) * step_y_;
    step_y_ = -step_y_;
  }
}

std::uint8_t* UprightWriter::row_in_place(int y) const {
  return step_x_ == 3 ? origin_ + y * step_y_ : nullptr;
}

void UprightWriter::put(int first, int count, const std::uint8_t* rows,
                        std::ptrdiff_t stride) const {
  if (step_x_ == 3) {
    for (int r = 0; r < count; ++r) {
      std::memcpy(origin_ + (first + r) * step_y_, rows + r * stride,
                  std::size_t{3} * stored_width_);
    }
    return;
  }
  if (step_x_ == -3) {
    for (int r = 0; r < count; ++r) {
      std::uint8_t* to = origin_ + (first + r) * step_y_;
      const std::uint8_t* from = rows + r * stride;
      for (int x = 0; x < stored_width_; ++x, to -= 3, from += 3) copy_pixel(to, from);
    }
    return;
  }
  // A stored column is part of an upright row: write each as one run.
  for (int x = 0; x < stored_width_; ++x) {
    std::uint8_t* to = origin_ + x * step_x_ + first * step_y_;
    const std::uint8_t* from = rows + std::ptrdiff_t{3} * x;
    for (int r = 0; r < count; ++r, to += step_y_, from += stride) copy_pixel(to, from);
  }
}

}  // namespace brim::detail
