#include "support/jpeg.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <jpeglib.h>
#include <turbojpeg.h>

#include "brim/dataloader/random.h"

namespace brim::test {

ByteVector encode_jpeg(const ImageView& pixels, const JpegOptions& options) {
  jpeg_compress_struct cinfo{};
  jpeg_error_mgr errors{};
  cinfo.err = jpeg_std_error(&errors);
  jpeg_create_compress(&cinfo);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&cinfo, &out, &size);
  cinfo.image_width = static_cast<JDIMENSION>(pixels.width);
  cinfo.image_height = static_cast<JDIMENSION>(pixels.height);
  cinfo.input_components = 3;
  cinfo.in_color_space = JCS_RGB;
  jpeg_set_defaults(&cinfo);
  if (options.gray) jpeg_set_colorspace(&cinfo, JCS_GRAYSCALE);
  jpeg_set_quality(&cinfo, options.quality, TRUE);
  if (!options.gray) {
    cinfo.comp_info[0].h_samp_factor = options.h_factor;
    cinfo.comp_info[0].v_samp_factor = options.v_factor;
    cinfo.comp_info[1].h_samp_factor = options.blue_h;
    cinfo.comp_info[1].v_samp_factor = options.blue_v;
    cinfo.comp_info[2].h_samp_factor = options.red_h;
    cinfo.comp_info[2].v_samp_factor = options.red_v;
  }
  if (options.progressive) jpeg_simple_progression(&cinfo);
  static constexpr jpeg_scan_info kScans[3] = {
      {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
  if (options.separate_scans) {
    cinfo.scan_info = kScans;
    cinfo.num_scans = 3;
  }
  cinfo.optimize_coding = options.optimize ? TRUE : FALSE;
  cinfo.arith_code = options.arithmetic ? TRUE : FALSE;
  cinfo.restart_interval = static_cast<unsigned>(options.restart_interval);
  jpeg_start_compress(&cinfo, TRUE);
  if (options.orientation != 0) {
    const ByteVector exif = make_exif(options.orientation);
    std::vector<JOCTET> segment{'E', 'x', 'i', 'f', 0, 0};
    for (const std::byte b : exif) segment.push_back(std::to_integer<JOCTET>(b));
    jpeg_write_marker(&cinfo, JPEG_APP0 + 1, segment.data(), static_cast<unsigned>(segment.size()));
  }
  while (cinfo.next_scanline < cinfo.image_height) {
    JSAMPROW row = const_cast<JSAMPROW>(pixels.row(static_cast<int>(cinfo.next_scanline)));
    jpeg_write_scanlines(&cinfo, &row, 1);
  }
  jpeg_finish_compress(&cinfo);
  const auto* const begin = reinterpret_cast<const std::byte*>(out);
  ByteVector result(begin, begin + size);
  jpeg_destroy_compress(&cinfo);
  std::free(out);
  return result;
}

Image make_picture(int width, int height, std::uint64_t seed) {
  Image image;
  image.resize(width, height);
  Generator random(seed, Purpose::User);
  const int period = 3 + static_cast<int>(random.below(40));
  const auto view = image.mutable_view();
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool edge = (x / period + y / period) % 2 == 0;
      const auto noise = static_cast<int>(random.below(24));
      std::uint8_t* pixel = view.row(y) + 3 * x;
      pixel[0] = static_cast<std::uint8_t>((edge ? 200 : 20) + noise);
      pixel[1] = static_cast<std::uint8_t>((x * 255 / width + noise) & 255);
      pixel[2] = static_cast<std::uint8_t>((edge ? y * 255 / height : 255 - noise) & 255);
    }
  }
  return image;
}

ByteVector make_exif(int orientation) {
  const unsigned char bytes[] = {
      'M',  'M',  0, 42, 0, 0, 0, 8, 0, 1,
      0x01, 0x12, 0, 3,  0, 0, 0, 1, 0, static_cast<unsigned char>(orientation),
      0,    0,    0, 0,  0, 0};
  const auto* const begin = reinterpret_cast<const std::byte*>(bytes);
  return {begin, begin + sizeof bytes};
}

ByteVector read_bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

Image turn_upright(const ImageView& stored, int orientation) {
  const bool swaps = orientation >= 5;
  Image image;
  image.resize(swaps ? stored.height : stored.width, swaps ? stored.width : stored.height);
  const int w = stored.width, h = stored.height;
  for (int y = 0; y < h; ++y) {
    for (int x = 0; x < w; ++x) {
      int u = x, v = y;
      switch (orientation) {
        case 2:
          u = w - 1 - x;
          break;
        case 3:
          u = w - 1 - x;
          v = h - 1 - y;
          break;
        case 4:
          v = h - 1 - y;
          break;
        case 5:
          u = y;
          v = x;
          break;
        case 6:
          u = h - 1 - y;
          v = x;
          break;
        case 7:
          u = h - 1 - y;
          v = w - 1 - x;
          break;
        case 8:
          u = y;
          v = w - 1 - x;
          break;
        default:
          break;
      }
      std::memcpy(image.mutable_view().row(v) + 3 * u, stored.row(y) + 3 * x, 3);
    }
  }
  return image;
}

Image decode_with_turbojpeg(std::span<const std::byte> encoded, int denominator) {
  const tjhandle handle = tjInitDecompress();
  const auto* const data = reinterpret_cast<const unsigned char*>(encoded.data());
  int width = 0, height = 0, sampling = 0, colours = 0;
  Image image;
  if (tjDecompressHeader3(handle, data, encoded.size(), &width, &height, &sampling, &colours) ==
      0) {
    width = (width + denominator - 1) / denominator;
    height = (height + denominator - 1) / denominator;
    image.resize(width, height);
    tjDecompress2(handle, data, encoded.size(), image.mutable_view().data, width, 0, height,
                  TJPF_RGB, 0);
  }
  tjDestroy(handle);
  return image;
}

}  // namespace brim::test
