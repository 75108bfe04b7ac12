#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "brim/dataloader/decode.h"
#include "decode_header.h"

namespace brim::detail {
namespace {

/// First directory of a TIFF structure (classic or BigTIFF), either byte order.
class TiffDirectory {
 public:
  explicit TiffDirectory(Bytes bytes) : bytes_(bytes) {
    if (bytes.size() < 8) return;
    const auto mark = big_endian(bytes, 0, 2);
    if (mark != 0x4949 && mark != 0x4D4D) return;
    little_ = mark == 0x4949;
    const auto version = read(2, 2);
    if (version != 42 && version != 43) return;
    big_ = version == 43;
    const auto at = big_ ? read(8, 8) : read(4, 4);
    if (at == 0 || at >= bytes.size()) return;
    count_ = read(at, big_ ? 8 : 2);
    first_ = at + (big_ ? 8 : 2);
    count_ = std::min<std::uint64_t>(count_, (bytes.size() - at) / entry_size());
  }

  /// First value of an integer entry; 0: no such entry.
  std::uint64_t value(unsigned tag) const {
    for (std::uint64_t i = 0; i < count_; ++i) {
      const std::size_t at = first_ + i * entry_size();
      if (read(at, 2) != tag) continue;
      const auto type = read(at + 2, 2);
      const std::size_t data = at + (big_ ? 12 : 8);
      const int size = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : type == 16 ? 8 : 0;
      return size == 0 || (size == 8 && !big_) ? 0 : read(data, size);
    }
    return 0;
  }

 private:
  std::size_t entry_size() const { return big_ ? 20 : 12; }
  std::uint64_t read(std::size_t at, int size) const {
    return little_ ? little_endian(bytes_, at, size) : big_endian(bytes_, at, size);
  }

  Bytes bytes_;
  bool little_ = false, big_ = false;
  std::size_t first_ = 0;
  std::uint64_t count_ = 0;
};

int valid_orientation(std::uint64_t value) {
  return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
}

/// Reads the numbers of a PNM header: blanks and # comments between them.
class PnmNumbers {
 public:
  explicit PnmNumbers(Bytes file) : file_(file) {}
  std::int64_t next() {
    for (; at_ < file_.size(); ++at_) {
      const char c = character();
      if (c == '#') {
        while (at_ < file_.size() && character() != '\n') ++at_;
      } else if (c > ' ') {
        break;
      }
    }
    std::int64_t value = 0;
    bool any = false;
    for (; at_ < file_.size() && character() >= '0' && character() <= '9'; ++at_, any = true) {
      value = std::min<std::int64_t>(value * 10 + (character() - '0'), std::int64_t{1} << 40);
    }
    if (!any) throw DecodeError("damaged PNM: its header has something that is no number");
    return value;
  }
  std::size_t position() const { return at_; }

 private:
  char character() const { return static_cast<char>(file_[at_]); }
  Bytes file_;
  std::size_t at_ = 2;
};

/// Value after `key` in a PAM header.
std::int64_t pam_field(std::string_view header, std::string_view key) {
  const auto at = header.find(key);
  if (at == std::string_view::npos) return 0;
  std::int64_t value = 0;
  for (const char c : header.substr(at + key.size()).substr(0, 12)) {
    if (c >= '0' && c <= '9') value = value * 10 + (c - '0');
    if (c == '\n') break;
  }
  return value;
}

}  // namespace

int exif_orientation(Bytes tiff) {
  constexpr std::string_view kMark{"Exif\0\0", 6};
  if (tiff.size() > kMark.size() && std::memcmp(tiff.data(), kMark.data(), kMark.size()) == 0) {
    tiff = tiff.subspan(kMark.size());
  }
  return valid_orientation(TiffDirectory(tiff).value(0x0112));
}

HeaderInfo read_tiff_header(Bytes file) {
  const TiffDirectory directory(file);
  HeaderInfo info{.format = Format::Tiff, .name = "tiff"};
  info.width = static_cast<std::int64_t>(directory.value(256));
  info.height = static_cast<std::int64_t>(directory.value(257));
  info.orientation = valid_orientation(directory.value(274));
  info.decoder_orients = true;
  if (info.width < 1 || info.height < 1) {
    throw DecodeError("damaged TIFF: its first directory has no size");
  }
  // 16-bit samples are read as they are and narrowed afterwards.
  info.scratch_per_pixel = directory.value(258) > 8 || info.orientation > 4 ? 8 : 1;
  return info;
}

HeaderInfo read_webp_header(Bytes file) {
  HeaderInfo info{.format = Format::WebP, .name = "webp"};
  if (file.size() < 30) throw DecodeError("truncated WebP: the file ends inside its header");
  if (little_endian(file, 4, 4) + 8 > file.size()) {
    info.truncated = "the file is shorter than its header says";
  }
  const std::string_view kind(reinterpret_cast<const char*>(file.data()) + 12, 4);
  if (kind == "VP8X") {
    if ((little_endian(file, 20, 1) & 2) != 0) {
      throw DecodeError("animated WebP is not supported", {}, "save one frame of it");
    }
    info.width = static_cast<std::int64_t>(little_endian(file, 24, 3)) + 1;
    info.height = static_cast<std::int64_t>(little_endian(file, 27, 3)) + 1;
  } else if (kind == "VP8L") {
    const auto bits = little_endian(file, 21, 4);
    info.width = static_cast<std::int64_t>(bits & 0x3FFF) + 1;
    info.height = static_cast<std::int64_t>(bits >> 14 & 0x3FFF) + 1;
  } else if (kind == "VP8 ") {
    info.width = static_cast<std::int64_t>(little_endian(file, 26, 2) & 0x3FFF);
    info.height = static_cast<std::int64_t>(little_endian(file, 28, 2) & 0x3FFF);
  }
  if (info.width < 1 || info.height < 1) throw DecodeError("damaged WebP: it has no size");
  for (std::size_t at = 12; at + 8 <= file.size();) {
    const std::size_t length = little_endian(file, at + 4, 4);
    if (length > file.size() - at - 8) break;
    if (std::memcmp(file.data() + at, "EXIF", 4) == 0) {
      info.orientation = exif_orientation(file.subspan(at + 8, length));
    }
    at += 8 + length + length % 2;
  }
  info.scratch_per_pixel = 4;  // the decoder's own planes, or alpha
  return info;
}

HeaderInfo read_bmp_header(Bytes file) {
  HeaderInfo info{.format = Format::Bmp, .name = "bmp"};
  const auto header = little_endian(file, 14, 4);
  const bool old = header == 12;
  const auto signed32 = [&](std::size_t at) {
    return std::int64_t{static_cast<std::int32_t>(little_endian(file, at, 4))};
  };
  info.width = old ? static_cast<std::int64_t>(little_endian(file, 18, 2)) : signed32(18);
  info.height = old ? static_cast<std::int64_t>(little_endian(file, 20, 2)) : signed32(22);
  if (info.height < 0) info.height = -info.height;  // stored from the top
  if (info.width < 1 || info.height < 1) throw DecodeError("damaged BMP: its size is not positive");
  const auto bits = static_cast<std::int64_t>(little_endian(file, old ? 24 : 28, 2));
  const bool packed = !old && little_endian(file, 30, 4) != 0;
  const auto row_bytes = (info.width * bits + 31) / 32 * 4;
  const auto data = static_cast<std::int64_t>(file.size()) -
                    static_cast<std::int64_t>(little_endian(file, 10, 4));
  if (!packed && (data <= 0 || row_bytes > data / info.height)) {
    info.truncated = "the file is shorter than its header says";
  }
  return info;
}

HeaderInfo read_pnm_header(Bytes file) {
  HeaderInfo info{.format = Format::Pnm, .name = "pnm"};
  const char kind = static_cast<char>(file[1]);
  if (kind == '7') {
    const std::string_view header(reinterpret_cast<const char*>(file.data()),
                                  std::min<std::size_t>(file.size(), 1024));
    info.width = pam_field(header, "WIDTH ");
    info.height = pam_field(header, "HEIGHT ");
    info.scratch_per_pixel = 8;
  } else {
    PnmNumbers numbers(file);
    info.width = numbers.next();
    info.height = numbers.next();
    const bool bitmap = kind == '1' || kind == '4';
    const std::int64_t most = bitmap ? 1 : numbers.next();
    const std::int64_t channels = kind == '3' || kind == '6' ? 3 : 1;
    const std::int64_t row_bytes =
        bitmap ? (info.width + 7) / 8 : info.width * channels * (most > 255 ? 2 : 1);
    const auto data = static_cast<std::int64_t>(file.size() - numbers.position()) - 1;
    // A number and a blank of the text forms take two bytes at least, a bit one.
    const std::int64_t least =
        kind < '4' ? (bitmap ? info.width : 2 * info.width * channels - 1) : row_bytes;
    if (info.height > 0 && data / info.height < least) {
      info.truncated = "the file is shorter than its header says";
    }
  }
  if (info.width < 1 || info.height < 1) throw DecodeError("damaged PNM: its size is not positive");
  return info;
}

HeaderInfo read_jpeg2000_header(Bytes file) {
  HeaderInfo info{.format = Format::Jpeg2000, .name = "jpeg 2000", .scratch_per_pixel = 16};
  // SIZ, the first marker segment of the code stream, lies near the front in every file.
  constexpr std::array<unsigned char, 4> kSize{0xFF, 0x4F, 0xFF, 0x51};
  const auto mark = std::as_bytes(std::span(kSize));
  const auto found = std::search(file.begin(), file.end(), mark.begin(), mark.end());
  if (found == file.end()) throw DecodeError("damaged JPEG 2000: no code stream");
  const auto at = static_cast<std::size_t>(found - file.begin());
  const auto field = [&](std::size_t i) {
    return static_cast<std::int64_t>(big_endian(file, at + 8 + i, 4));
  };
  info.width = field(0) - field(8);
  info.height = field(4) - field(12);
  if (info.width < 1 || info.height < 1) throw DecodeError("damaged JPEG 2000: it has no size");
  return info;
}

}  // namespace brim::detail
