#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace brim::test {

/// Bytes of a JPEG of this size that hold what a header reader needs: SOI, an EXIF orientation
/// (0: none), a frame header, EOI. No pixels.
std::string jpeg_header(int width, int height, int orientation = 0);
/// The same for PNG: signature and IHDR.
std::string png_header(int width, int height);

/// A YOLO dataset in `folder`: data.yaml with classes "a", "b", "c" and, per entry of `labels`,
/// images/train/<i>.jpg (64x48 header) with this label text ("-": no label file). The same files
/// are val.
std::string write_yolo(const std::string& folder, const std::vector<std::string>& labels);

}  // namespace brim::test
