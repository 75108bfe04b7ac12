#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "brim/dataloader/image.h"

namespace brim::test {

using ByteVector = std::vector<std::byte>;

/// How a test JPEG is written.
struct JpegOptions {
  int quality = 85;
  int h_factor = 2, v_factor = 2;  ///< sampling of luma against chroma: 2x2 is 4:2:0
  int blue_h = 1, blue_v = 1, red_h = 1, red_v = 1;  ///< sampling of the chroma planes
  bool gray = false;
  bool progressive = false;
  bool separate_scans = false;  ///< each component in a scan of its own
  bool optimize = false;        ///< Huffman tables of its own
  bool arithmetic = false;
  int restart_interval = 0;  ///< MCUs between restart markers
  int orientation = 0;       ///< EXIF orientation to state; 0: no EXIF
};

/// Encodes RGB pixels (the first channel of them where gray).
ByteVector encode_jpeg(const ImageView& pixels, const JpegOptions& options = {});

/// A picture with edges, gradients and noise, the same for a seed.
Image make_picture(int width, int height, std::uint64_t seed);

/// Exif payload (TIFF structure, no "Exif\0\0") with nothing but an orientation.
ByteVector make_exif(int orientation);

ByteVector read_bytes_of(const std::string& path);

/// `stored` turned upright as EXIF `orientation` says, pixel by pixel by definition.
Image turn_upright(const ImageView& stored, int orientation);

/// Whole decode through tjDecompress2's defaults at 1/denominator, in stored orientation.
Image decode_with_turbojpeg(std::span<const std::byte> encoded, int denominator = 1);

}  // namespace brim::test
