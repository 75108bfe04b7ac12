#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace brim::detail {

using Bytes = std::span<const std::byte>;

enum class Format : std::uint8_t {
  Unknown,
  Jpeg,
  Png,
  Bmp,
  WebP,
  Tiff,
  Pnm,
  Jpeg2000,
  Unsupported,  ///< known, but no decoder: HeaderInfo::name says which
};

/// What a header says, for every format but JPEG (which libjpeg reads itself).
struct HeaderInfo {
  Format format = Format::Unknown;
  std::string name{};      ///< "png", "webp", ...
  std::int64_t width = 0;  ///< as stored; 0: not told
  std::int64_t height = 0;
  int orientation = 1;                 ///< EXIF 1..8
  bool decoder_orients = false;        ///< the decoder applies the orientation itself
  std::string truncated{};             ///< why the file cannot be whole; empty: nothing found
  std::int64_t scratch_per_pixel = 0;  ///< bytes that its decoder takes beside the result
};

/// Tells the format by the first bytes.
Format sniff(Bytes file);

/// Reads the header of a file that is no JPEG. Throws DecodeError where it makes no sense.
HeaderInfo read_header(Bytes file);

/// Orientation in a TIFF structure (EXIF data without its "Exif\0\0"), 1 where there is none.
int exif_orientation(Bytes tiff);

/// Integer of `size` (1..8) bytes at `offset`; 0 beyond the end.
std::uint64_t big_endian(Bytes bytes, std::size_t offset, int size);
std::uint64_t little_endian(Bytes bytes, std::size_t offset, int size);

HeaderInfo read_png_header(Bytes file);
HeaderInfo read_webp_header(Bytes file);
HeaderInfo read_tiff_header(Bytes file);
HeaderInfo read_bmp_header(Bytes file);
HeaderInfo read_pnm_header(Bytes file);
HeaderInfo read_jpeg2000_header(Bytes file);

}  // namespace brim::detail
