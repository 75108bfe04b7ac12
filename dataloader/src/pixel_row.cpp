#include "pixel_row.h"

#include <algorithm>
#include <cstring>

namespace brim::detail {

void PixelRow::resize(int width) {
  width_ = width;
  if (width <= room_) return;
  pitch_ = (width + kSpare + 63) / 64 * 64;
  const auto bytes = static_cast<std::size_t>(3 * pitch_);
  bytes_.reset(static_cast<std::uint8_t*>(::operator new (bytes, std::align_val_t{kAlignment})));
  std::memset(bytes_.get(), 0, bytes);
  room_ = width;
}

void PixelRow::fill(int begin, int end, std::uint8_t value) {
  if (begin >= end) return;
  for (int c = 0; c < 3; ++c) {
    std::memset(plane(c) + begin, value, static_cast<std::size_t>(end - begin));
  }
}

void PixelRow::copy(const PixelRow& other, int begin, int end) {
  if (begin >= end) return;
  for (int c = 0; c < 3; ++c) {
    std::memcpy(plane(c) + begin, other.plane(c) + begin, static_cast<std::size_t>(end - begin));
  }
}

}  // namespace brim::detail
