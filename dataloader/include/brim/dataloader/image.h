#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace brim {

/// A look at 8-bit RGB pixels, rows of `stride` bytes, interleaved. brim's pixels are RGB
/// everywhere; only the decoder and the writers of pictures know other orders.
struct ImageView {
  const std::uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  std::ptrdiff_t stride = 0;
  const std::uint8_t* row(int y) const { return data + y * stride; }
};

/// The same, writable.
struct MutableImageView {
  std::uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  std::ptrdiff_t stride = 0;
  std::uint8_t* row(int y) const { return data + y * stride; }
  operator ImageView() const { return {data, width, height, stride}; }
};

/// Pixels in a buffer that only grows, so that a reused Image allocates nothing in steady state.
class Image {
 public:
  Image() = default;
  Image(Image&&) noexcept = default;
  Image& operator=(Image&&) noexcept = default;
  /// Makes room for width x height RGB (contiguous rows); old content is lost.
  void resize(int width, int height);
  int width() const { return width_; }
  int height() const { return height_; }
  bool empty() const { return width_ == 0; }
  ImageView view() const { return {pixels(), width_, height_, std::ptrdiff_t{3} * width_}; }
  MutableImageView mutable_view() {
    return {pixels(), width_, height_, std::ptrdiff_t{3} * width_};
  }
  std::span<const std::byte> bytes() const;
  /// Room before the pixels, for a header that is kept with them.
  static constexpr std::size_t kHeadroom = 64;
  std::span<std::byte> bytes_with_headroom();
  /// Bytes of pixels that there is room for.
  std::size_t capacity() const { return memory_.empty() ? 0 : memory_.size() - kHeadroom; }
  /// Takes `memory` for its own and leaves the old one there; the content is lost.
  void swap_memory(std::vector<std::byte>& memory);

 private:
  std::uint8_t* pixels() const {
    auto* const begin = const_cast<std::byte*>(memory_.data());
    return memory_.empty() ? nullptr : reinterpret_cast<std::uint8_t*>(begin) + kHeadroom;
  }

  std::vector<std::byte> memory_;
  int width_ = 0;
  int height_ = 0;
};

}  // namespace brim
