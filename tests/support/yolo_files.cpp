#include "support/yolo_files.h"

#include "support/test_data.h"

namespace brim::test {
namespace {

std::string big16(int value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 255)};
}

}  // namespace

std::string jpeg_header(int width, int height, int orientation) {
  std::string bytes = "\xFF\xD8";
  if (orientation > 0) {
    std::string tiff = "MM" + big16(42) + big16(0) + big16(8) + big16(1);
    tiff += big16(0x0112) + big16(3) + big16(0) + big16(1) + big16(orientation) + big16(0);
    tiff += std::string(4, '\0');
    bytes += "\xFF\xE1" + big16(static_cast<int>(tiff.size()) + 8) + std::string("Exif\0\0", 6);
    bytes += tiff;
  }
  bytes += "\xFF\xC0" + big16(17) + "\x08" + big16(height) + big16(width) + "\x03";
  return bytes + std::string("\1\x22\0\2\x11\1\3\x11\1", 9) + "\xFF\xD9";
}

std::string png_header(int width, int height) {
  return std::string("\x89PNG\r\n\x1A\n\0\0\0\rIHDR", 16) + big16(width >> 16) +
         big16(width & 0xFFFF) + big16(height >> 16) + big16(height & 0xFFFF) +
         std::string("\x08\x02\0\0\0\0\0\0\0", 9);
}

std::string write_yolo(const std::string& folder, const std::vector<std::string>& labels) {
  const std::string file = folder + "/data.yaml";
  write_file(file, "path: .\ntrain: images/train\nval: images/train\nnames: [a, b, c]\n");
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::string stem = "/train/" + std::to_string(i);
    write_file(folder + "/images" + stem + ".jpg", jpeg_header(64, 48));
    if (labels[i] != "-") write_file(folder + "/labels" + stem + ".txt", labels[i]);
  }
  return file;
}

}  // namespace brim::test
