#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace brim::detail {

/// A row of pixels in work: a plane of bytes for each of red, green and blue, so that one register
/// holds one channel. Kernels work in whole registers: they may read and write the `kSpare` bytes
/// that follow each plane. Keeps its memory.
class PixelRow {
 public:
  static constexpr int kSpare = 64;

  /// Room for `width` pixels; what was there is lost where it grows.
  void resize(int width);
  int width() const { return width_; }
  std::uint8_t* plane(int channel) { return bytes_.get() + channel * pitch_; }
  const std::uint8_t* plane(int channel) const { return bytes_.get() + channel * pitch_; }
  /// Bytes from one plane to the next.
  std::ptrdiff_t pitch() const { return pitch_; }
  /// Pixels [begin, end) become (value, value, value).
  void fill(int begin, int end, std::uint8_t value);
  /// Pixels [begin, end) become those of `other`.
  void copy(const PixelRow& other, int begin, int end);

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(std::uint8_t* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<std::uint8_t, Free> bytes_;
  std::ptrdiff_t pitch_ = 0;
  int width_ = 0, room_ = 0;
};

}  // namespace brim::detail
