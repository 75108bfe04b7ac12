#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "brim/cache/error.h"
#include "brim/dataloader/image.h"

namespace brim {

/// A file that cannot be decoded: why, in one line. Thrown by decoding, handled by the loader
/// (Law 3), shown by `brim inspect image`.
class DecodeError : public Error {
 public:
  using Error::Error;
};

/// Thrown by a decode that was called off.
class CalledOff : public std::exception {
 public:
  const char* what() const noexcept override { return "the decode was called off"; }
};

/// Part of the upright image, as fractions of its width and height.
struct RegionF {
  double x = 0, y = 0, width = 1, height = 1;
};

/// How large the pixels are needed. The result depends on the encoded bytes and this alone, so
/// every cache mode sees the same pixels.
struct DecodeRequest {
  enum class Fit : std::uint8_t {
    Full,                 ///< as stored
    LongestSide,          ///< brought down so that the longer side is at most `size` (never up)
    ShortestSideAtLeast,  ///< JPEG scaled by 1/2, 1/4, 1/8 while the shorter side stays >= `size`
  };
  Fit fit = Fit::Full;
  int size = 0;
};

enum class Truncated : std::uint8_t { Reject, Accept };

struct DecodeLimits {
  Truncated truncated = Truncated::Reject;
  std::int64_t max_pixels = std::int64_t{512} << 20;
  std::int64_t max_bytes = 0;  ///< decoded bytes plus scratch; 0: no limit
};

/// What a file says of itself before its pixels are read.
struct ImageInfo {
  std::string format{};       ///< "jpeg", "progressive jpeg", "png", "bmp", ...
  int width = 0, height = 0;  ///< upright, full size; 0: only the decoder can tell
  int orientation = 1;        ///< EXIF 1..8
  int scale_denominator = 1;  ///< DCT scale the plan chose (1, 2, 4, 8)
  std::string plan{};         ///< e.g. "turbojpeg 1/2 then area to 640x480"
};

/// Result of a decode: pixels of `image` cover `region_*` of the upright image scaled to
/// `full_width` x `full_height`; without a region they are all of it.
struct DecodedInfo {
  int original_width = 0, original_height = 0;  ///< upright, as stored
  int full_width = 0, full_height = 0;          ///< size the whole image would have here
  int region_x = 0, region_y = 0;               ///< offset of the pixels within full
};

/// Decodes with buffers that are reused from call to call. One per thread.
///
///   Decoder decoder({.truncated = Truncated::Reject});
///   DecodedInfo info = decoder.decode(bytes, {DecodeRequest::Fit::LongestSide, 640}, {}, image);
class Decoder {
 public:
  explicit Decoder(const DecodeLimits& limits = {});
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  /// From now on every decode throws CalledOff soon after `flag`, which must live as long, is true:
  /// within a row of blocks of a JPEG, between the steps of other formats.
  void call_off_when(const std::atomic<bool>& flag);
  /// Reads the header only. Throws DecodeError.
  ImageInfo inspect(std::span<const std::byte> encoded, const DecodeRequest& request = {});
  /// Decodes `encoded` (upright, 3-channel RGB). With `region`, only that part is decoded where the
  /// format allows it; its pixels equal those of the whole decode. Throws DecodeError.
  DecodedInfo decode(std::span<const std::byte> encoded, const DecodeRequest& request,
                     const std::optional<RegionF>& region, Image& image);
  /// Chooses the wanted part of an image of this upright size.
  using RegionChoice = std::function<std::optional<RegionF>(int width, int height)>;
  /// The same where the part is chosen once the header is read; `choose` is asked at most once.
  DecodedInfo decode_chosen(std::span<const std::byte> encoded, const DecodeRequest& request,
                            const RegionChoice& choose, Image& image);
  /// Raw grey pixels to RGB, brought to `request`.
  DecodedInfo convert_gray(std::span<const std::byte> gray, int width, int height,
                           const DecodeRequest& request, Image& image);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Text that names `request` and the decoder's version, part of every cache key.
std::string decode_recipe(const DecodeRequest& request, const DecodeLimits& limits);

}  // namespace brim
