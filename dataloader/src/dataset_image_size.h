#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace brim::detail {

/// Upright size of an image as its header tells it; 0: the header does not tell, or it is none of
/// JPEG and PNG.
struct ImageSize {
  int width = 0;
  int height = 0;
};

/// Reads parts of a file (or of a member of a tar shard): pread at `base + position`.
class HeaderSource {
 public:
  HeaderSource(int file, std::uint64_t base, std::uint64_t length)
      : file_(file), base_(base), length_(length) {}
  explicit HeaderSource(std::span<const std::byte> memory)
      : memory_(memory), length_(memory.size()) {}
  /// `count` (at most 4096) bytes at `position`; nullptr where the source ends before.
  const std::uint8_t* at(std::uint64_t position, std::size_t count);

 private:
  static constexpr std::size_t kWindow = 8192;
  int file_ = -1;
  std::span<const std::byte> memory_{};
  std::uint64_t base_ = 0;
  std::uint64_t length_ = 0;
  std::uint64_t window_begin_ = 0;
  std::size_t window_size_ = 0;
  std::uint8_t window_[kWindow];
};

/// JPEG: frame header and EXIF orientation (ITU T.81 B.2, EXIF 2.3). PNG: IHDR; a PNG with an
/// orientation of its own gives 0, for decoders disagree on it.
ImageSize read_image_size(HeaderSource& source);

}  // namespace brim::detail
