#include "brim/dataloader/image.h"

namespace brim {

void Image::resize(int width, int height) {
  const std::size_t need = std::size_t{3} * static_cast<std::size_t>(width) * height;
  if (need > capacity_) {
    data_.reset(new std::uint8_t[kHeadroom + need]);
    capacity_ = need;
  }
  width_ = width;
  height_ = height;
}

std::span<const std::byte> Image::bytes() const {
  return {reinterpret_cast<const std::byte*>(pixels()),
          std::size_t{3} * static_cast<std::size_t>(width_) * height_};
}

std::span<std::byte> Image::bytes_with_headroom() {
  return {reinterpret_cast<std::byte*>(data_.get()),
          kHeadroom + std::size_t{3} * static_cast<std::size_t>(width_) * height_};
}

}  // namespace brim
