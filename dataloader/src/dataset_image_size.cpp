#include "dataset_image_size.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace brim::detail {
namespace {

int big16(const std::uint8_t* p) {
  return p[0] << 8 | p[1];
}
std::uint32_t big32(const std::uint8_t* p) {
  return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
         static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

/// EXIF orientation in the TIFF structure at `base` of the source; 1 where there is none.
int tiff_orientation(HeaderSource& source, std::uint64_t base, std::uint64_t end) {
  const std::uint8_t* head = base + 8 <= end ? source.at(base, 8) : nullptr;
  if (head == nullptr) return 1;
  const bool little = head[0] == 'I' && head[1] == 'I';
  if (!little && !(head[0] == 'M' && head[1] == 'M')) return 1;
  auto u16 = [little](const std::uint8_t* p) { return little ? p[1] << 8 | p[0] : big16(p); };
  if (u16(head + 2) != 42) return 1;
  const std::uint8_t reversed[4] = {head[7], head[6], head[5], head[4]};
  const std::uint64_t directory = base + (little ? big32(reversed) : big32(head + 4));
  const std::uint8_t* p = directory + 2 <= end ? source.at(directory, 2) : nullptr;
  if (p == nullptr) return 1;
  const int entries = u16(p);
  for (int i = 0; i < entries; ++i) {
    const std::uint64_t entry = directory + 2 + 12ull * static_cast<std::uint64_t>(i);
    p = entry + 12 <= end ? source.at(entry, 12) : nullptr;
    if (p == nullptr) return 1;
    if (u16(p) != 0x0112) continue;
    const int orientation = u16(p + 8);
    return u16(p + 2) == 3 && orientation >= 1 && orientation <= 8 ? orientation : 1;
  }
  return 1;
}

bool is_frame_header(int marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

ImageSize jpeg_size(HeaderSource& source) {
  int orientation = 1;
  bool seen_exif = false;
  std::uint64_t at = 2;
  // A header has some tens of segments; the bound keeps a hostile file from costing time.
  for (int segment = 0; segment < 1000; ++segment) {
    const std::uint8_t* p = source.at(at, 2);
    if (p == nullptr || p[0] != 0xFF) return {};
    const int marker = p[1];
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {  // no length
      at += 2;
      continue;
    }
    if (marker == 0xD9 || marker == 0xDA) return {};
    p = source.at(at + 2, 2);
    if (p == nullptr) return {};
    const int length = big16(p);
    if (length < 2) return {};
    if (is_frame_header(marker)) {
      p = source.at(at + 5, 4);
      if (p == nullptr) return {};
      ImageSize size{big16(p + 2), big16(p)};
      if (size.width == 0 || size.height == 0) return {};
      if (orientation >= 5) std::swap(size.width, size.height);
      return size;
    }
    if (marker == 0xE1 && !seen_exif && length >= 8) {
      p = source.at(at + 4, 6);
      if (p == nullptr) return {};
      if (std::memcmp(p, "Exif\0\0", 6) == 0) {
        seen_exif = true;
        orientation =
            tiff_orientation(source, at + 10, at + 2 + static_cast<std::uint64_t>(length));
      }
    }
    at += 2 + static_cast<std::uint64_t>(length);
  }
  return {};
}

ImageSize png_size(HeaderSource& source) {
  const std::uint8_t* p = source.at(8, 16);
  if (p == nullptr || std::memcmp(p + 4, "IHDR", 4) != 0) return {};
  const std::uint32_t width = big32(p + 8), height = big32(p + 12);
  if (width == 0 || height == 0 || width > INT32_MAX || height > INT32_MAX) return {};
  std::uint64_t at = 8;
  for (int chunk = 0; chunk < 64; ++chunk) {
    p = source.at(at, 8);
    if (p == nullptr || std::memcmp(p + 4, "IDAT", 4) == 0) break;
    const std::uint64_t length = big32(p);
    if (std::memcmp(p + 4, "eXIf", 4) == 0 &&
        tiff_orientation(source, at + 8, at + 8 + length) != 1) {
      return {};
    }
    at += 12 + length;
  }
  return {static_cast<int>(width), static_cast<int>(height)};
}

}  // namespace

const std::uint8_t* HeaderSource::at(std::uint64_t position, std::size_t count) {
  if (position > length_ || count > length_ - position) return nullptr;
  if (file_ < 0) return reinterpret_cast<const std::uint8_t*>(memory_.data()) + position;
  if (position >= window_begin_ && position + count <= window_begin_ + window_size_) {
    return window_ + (position - window_begin_);
  }
  const std::size_t wanted =
      static_cast<std::size_t>(std::min<std::uint64_t>(kWindow, length_ - position));
  const ssize_t got = ::pread(file_, window_, wanted, static_cast<off_t>(base_ + position));
  window_begin_ = position;
  window_size_ = got > 0 ? static_cast<std::size_t>(got) : 0;
  return window_size_ >= count ? window_ : nullptr;
}

ImageSize read_image_size(HeaderSource& source) {
  static constexpr std::uint8_t kPng[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  const std::uint8_t* p = source.at(0, 4);
  if (p == nullptr) return {};
  if (p[0] == 0xFF && p[1] == 0xD8) return jpeg_size(source);
  p = source.at(0, 8);
  if (p != nullptr && std::memcmp(p, kPng, 8) == 0) return png_size(source);
  return {};
}

}  // namespace brim::detail
