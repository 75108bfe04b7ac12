#include "brim/dataloader/image.h"

namespace brim {

void Image::resize(int width, int height) {
  const std::size_t need = std::size_t{3} * static_cast<std::size_t>(width) * height;
  if (need > capacity()) {
    std::vector<std::byte>().swap(memory_);  // grows to what is needed, not to twice as much
    memory_.resize(kHeadroom + need);
  }
  width_ = width;
  height_ = height;
}

std::span<const std::byte> Image::bytes() const {
  return {reinterpret_cast<const std::byte*>(pixels()),
          std::size_t{3} * static_cast<std::size_t>(width_) * height_};
}

std::span<std::byte> Image::bytes_with_headroom() {
  return {memory_.data(), kHeadroom + std::size_t{3} * static_cast<std::size_t>(width_) * height_};
}

void Image::swap_memory(std::vector<std::byte>& memory) {
  if (memory.size() < kHeadroom) memory.clear();
  memory_.swap(memory);
  width_ = height_ = 0;
}

}  // namespace brim
