#include "decode_header.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "brim/dataloader/decode.h"

namespace brim::detail {
namespace {

bool starts_with(Bytes file, std::size_t offset, std::string_view text) {
  return file.size() >= offset + text.size() &&
         std::memcmp(file.data() + offset, text.data(), text.size()) == 0;
}

/// Name of a format that brim knows but cannot decode; empty: none of them.
std::string_view foreign_format(Bytes file) {
  using std::string_view_literals::operator""sv;
  if (starts_with(file, 0, "GIF8")) return "GIF";
  if (starts_with(file, 4, "ftypavif") || starts_with(file, 4, "ftypavis")) return "AVIF";
  if (starts_with(file, 4, "ftyphei") || starts_with(file, 4, "ftypmif1")) return "HEIF";
  if (starts_with(file, 0, "\xFF\x0A"sv) || starts_with(file, 4, "JXL ")) return "JPEG XL";
  if (starts_with(file, 0, "8BPS")) return "Photoshop";
  if (starts_with(file, 0, "\x76\x2F\x31\x01"sv)) return "OpenEXR";
  if (starts_with(file, 0, "%PDF")) return "PDF";
  if (starts_with(file, 0, "<svg") || starts_with(file, 0, "<?xml")) return "SVG or XML";
  return {};
}

}  // namespace

std::uint64_t big_endian(Bytes bytes, std::size_t offset, int size) {
  if (offset > bytes.size() || bytes.size() - offset < static_cast<std::size_t>(size)) return 0;
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i) value = value << 8 | std::to_integer<unsigned>(bytes[offset + i]);
  return value;
}

std::uint64_t little_endian(Bytes bytes, std::size_t offset, int size) {
  if (offset > bytes.size() || bytes.size() - offset < static_cast<std::size_t>(size)) return 0;
  std::uint64_t value = 0;
  for (int i = size; i-- > 0;) value = value << 8 | std::to_integer<unsigned>(bytes[offset + i]);
  return value;
}

Format sniff(Bytes file) {
  using std::string_view_literals::operator""sv;
  if (starts_with(file, 0, "\xFF\xD8\xFF"sv)) return Format::Jpeg;
  if (starts_with(file, 0, "\x89PNG\r\n\x1A\n"sv)) return Format::Png;
  if (starts_with(file, 0, "RIFF") && starts_with(file, 8, "WEBP")) return Format::WebP;
  for (const auto mark : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (starts_with(file, 0, mark)) return Format::Tiff;
  }
  if (starts_with(file, 0, "\0\0\0\x0CjP  "sv) || starts_with(file, 0, "\xFF\x4F\xFF\x51"sv)) {
    return Format::Jpeg2000;
  }
  if (starts_with(file, 0, "BM") && file.size() >= 26) return Format::Bmp;
  if (file.size() > 2 && starts_with(file, 0, "P")) {
    const auto kind = std::to_integer<unsigned char>(file[1]);
    const auto after = std::to_integer<unsigned char>(file[2]);
    if (kind >= '1' && kind <= '7' && (after <= ' ' || after == '#')) return Format::Pnm;
  }
  return foreign_format(file).empty() ? Format::Unknown : Format::Unsupported;
}

HeaderInfo read_header(Bytes file) {
  switch (sniff(file)) {
    case Format::Png:
      return read_png_header(file);
    case Format::WebP:
      return read_webp_header(file);
    case Format::Tiff:
      return read_tiff_header(file);
    case Format::Bmp:
      return read_bmp_header(file);
    case Format::Pnm:
      return read_pnm_header(file);
    case Format::Jpeg2000:
      return read_jpeg2000_header(file);
    case Format::Unsupported:
      throw DecodeError("format " + std::string(foreign_format(file)) + " is not supported", {},
                        "convert the file to JPEG, PNG, WebP, TIFF, BMP or PNM");
    case Format::Jpeg:
    case Format::Unknown:
      break;
  }
  if (file.empty()) throw DecodeError("the file is empty");
  const bool text =
      std::ranges::all_of(file.first(std::min<std::size_t>(file.size(), 64)), [](std::byte b) {
        const auto c = std::to_integer<unsigned char>(b);
        return c >= ' ' || c == '\n' || c == '\r' || c == '\t';
      });
  throw DecodeError(text ? "not an image (it looks like text)" : "not an image of a known format");
}

}  // namespace brim::detail
