#include "decode_rewrite.h"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include <jpeglib.h>

namespace brim::detail {
namespace {

constexpr unsigned kSof0 = 0xC0, kSof1 = 0xC1, kSof2 = 0xC2, kSoi = 0xD8, kEoi = 0xD9, kSos = 0xDA;
constexpr unsigned kApp0 = 0xE0, kApp1 = 0xE1, kApp14 = 0xEE, kComment = 0xFE;
/// Larger pictures are kept as they are: their coefficients would take too much memory.
constexpr std::uint64_t kMostPixels = std::uint64_t{4} << 20;
/// More scans than any encoder writes.
constexpr int kMostScans = 100;
constexpr char kExifMark[] = "Exif\0";  // and the terminator: six bytes

unsigned byte_at(Bytes file, std::size_t at) {
  return std::to_integer<unsigned>(file[at]);
}

struct Segment {
  std::size_t begin = 0, end = 0;  ///< the marker included
};

/// What a walk over the markers of a sound file finds.
struct Layout {
  std::vector<Segment> metadata{};  ///< what no decoder of pixels looks at
  std::size_t exif = 0;             ///< where the EXIF data was that decides the orientation
  int orientation = 1;
  bool progressive = false;
  std::size_t end = 0;  ///< behind the end marker
  std::uint64_t pixels = 0;
};

/// Position of the next marker behind entropy-coded bytes; the file's size: there is none.
std::size_t skip_scan(Bytes file, std::size_t at) {
  while (at + 1 < file.size()) {
    const void* found = std::memchr(file.data() + at, 0xFF, file.size() - 1 - at);
    if (found == nullptr) break;
    at = static_cast<std::size_t>(static_cast<const std::byte*>(found) - file.data());
    const unsigned next = byte_at(file, at + 1);
    const bool restart = next >= 0xD0 && next <= 0xD7;
    if (next != 0 && !restart) return at;
    at += 2;
  }
  return file.size();
}

bool is_metadata(unsigned marker) {
  return marker == kComment || (marker > kApp0 && marker <= kApp0 + 15 && marker != kApp14);
}

void note_exif(Bytes payload, std::size_t at, Layout& layout) {
  const bool exif = payload.size() > sizeof kExifMark &&
                    std::memcmp(payload.data(), kExifMark, sizeof kExifMark) == 0;
  if (!exif || layout.exif != 0) return;
  layout.exif = at;
  layout.orientation = exif_orientation(payload);
}

/// Nothing where the file is not exactly a sequence of segments and scans up to an end marker.
std::optional<Layout> walk(Bytes file) {
  if (file.size() < 4 || byte_at(file, 0) != 0xFF || byte_at(file, 1) != kSoi) return std::nullopt;
  Layout layout;
  bool have_frame = false;
  for (std::size_t at = 2; at + 2 <= file.size();) {
    if (byte_at(file, at) != 0xFF) return std::nullopt;
    const unsigned marker = byte_at(file, at + 1);
    if (marker == kEoi) {
      layout.end = at + 2;
      return have_frame ? std::optional(layout) : std::nullopt;
    }
    const bool known = marker >= kSof0 && (marker < 0xD0 || marker > kSoi) &&
                       (marker < 0xF0 || marker == kComment);
    if (!known || at + 4 > file.size()) return std::nullopt;
    const std::size_t length = big_endian(file, at + 2, 2);
    const std::size_t next = at + 2 + length;
    if (length < 2 || next > file.size()) return std::nullopt;
    const Bytes payload = file.subspan(at + 4, length - 2);
    if (is_metadata(marker)) layout.metadata.push_back({at, next});
    if (marker == kApp1) note_exif(payload, at, layout);
    if (marker == kSof0 || marker == kSof1 || marker == kSof2) {
      if (have_frame || payload.size() < 6 || byte_at(payload, 0) != 8) return std::nullopt;
      have_frame = true;
      layout.progressive = marker == kSof2;
      layout.pixels = big_endian(payload, 1, 2) * big_endian(payload, 3, 2);
    } else if (marker >= 0xC3 && marker <= 0xCF && marker != 0xC4 && marker != 0xCC) {
      return std::nullopt;  // lossless, hierarchical or arithmetic
    }
    at = marker == kSos ? skip_scan(file, next) : next;
  }
  return std::nullopt;
}

/// "Exif\0\0" and a TIFF structure with nothing but the orientation.
std::array<std::byte, 32> exif_of(int orientation) {
  constexpr unsigned char kBytes[32] = {'E', 'x', 'i', 'f', 0, 0,    'I', 'I', 42, 0, 8,
                                        0,   0,   0,   1,   0, 0x12, 1,   3,   0,  1, 0,
                                        0,   0,   0,   0,   0, 0,    0,   0,   0,  0};
  std::array<std::byte, 32> exif{};
  std::memcpy(exif.data(), kBytes, sizeof kBytes);
  exif[24] = static_cast<std::byte>(orientation);
  return exif;
}

void append(std::vector<std::byte>& out, Bytes bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// Everything but metadata and what follows the end marker.
void strip(Bytes file, const Layout& layout, std::vector<std::byte>& out) {
  out.clear();
  std::size_t from = 0;
  for (const Segment& segment : layout.metadata) {
    append(out, file.subspan(from, segment.begin - from));
    from = segment.end;
    if (segment.begin != layout.exif || layout.orientation == 1) continue;
    const auto exif = exif_of(layout.orientation);
    const std::array<std::byte, 4> head{std::byte{0xFF}, std::byte{kApp1}, std::byte{0},
                                        std::byte{2 + exif.size()}};
    append(out, head);
    append(out, exif);
  }
  append(out, file.subspan(from, layout.end - from));
}

/// libjpeg from coefficients to coefficients; whatever is odd gives the attempt up.
class Transcoder {
 public:
  Transcoder() {
    in_.err = out_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr cinfo) { give_up(cinfo); };
    errors_.emit_message = [](j_common_ptr cinfo, int level) {
      if (level < 0) give_up(cinfo);
    };
    errors_.output_message = [](j_common_ptr) {};
    progress_.progress_monitor = [](j_common_ptr cinfo) {
      if (cinfo->is_decompressor &&
          reinterpret_cast<j_decompress_ptr>(cinfo)->input_scan_number > kMostScans)
        give_up(cinfo);
    };
    in_.client_data = out_.client_data = this;
  }
  ~Transcoder() {
    jpeg_destroy_compress(&out_);
    jpeg_destroy_decompress(&in_);
    std::free(bytes_);
  }
  Transcoder(const Transcoder&) = delete;
  Transcoder& operator=(const Transcoder&) = delete;

  /// The same coefficients as a baseline file; empty: it cannot be done.
  Bytes run(Bytes file, int orientation) {
    if (setjmp(jump_) != 0) return {};
    jpeg_create_decompress(&in_);
    jpeg_create_compress(&out_);
    in_.progress = &progress_;
    jpeg_mem_src(&in_, reinterpret_cast<const unsigned char*>(file.data()), file.size());
    jpeg_read_header(&in_, TRUE);
    jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&in_);
    if (!complete()) return {};
    jpeg_copy_critical_parameters(&in_, &out_);
    out_.optimize_coding = TRUE;
    jpeg_mem_dest(&out_, &bytes_, &size_);
    jpeg_write_coefficients(&out_, coefficients);
    if (orientation != 1) {
      const auto exif = exif_of(orientation);
      jpeg_write_marker(&out_, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()),
                        static_cast<unsigned>(exif.size()));
    }
    jpeg_finish_compress(&out_);
    jpeg_finish_decompress(&in_);
    return {reinterpret_cast<const std::byte*>(bytes_), size_};
  }

 private:
  [[noreturn]] static void give_up(j_common_ptr cinfo) {
    std::longjmp(static_cast<Transcoder*>(cinfo->client_data)->jump_, 1);
  }

  /// Whether the scans gave every bit of every coefficient: a decoder smooths the blocks of a
  /// progressive file whose scans did not, but not those of a baseline file.
  bool complete() const {
    if (in_.coef_bits == nullptr) return true;
    for (int component = 0; component < in_.num_components; ++component)
      for (int i = 0; i < DCTSIZE2; ++i)
        if (in_.coef_bits[component][i] != 0) return false;
    return true;
  }

  std::jmp_buf jump_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct in_{};
  jpeg_compress_struct out_{};
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

Bytes JpegRewriter::rewrite(Bytes file) {
  const std::optional<Layout> layout = walk(file);
  if (!layout) return file;
  if (layout->progressive) {
    if (layout->pixels > kMostPixels) return file;
    Transcoder transcoder;
    const Bytes made = transcoder.run(file, layout->orientation);
    if (made.empty()) return file;
    out_.assign(made.begin(), made.end());
    return out_;
  }
  std::size_t saved = file.size() - layout->end;
  for (const Segment& segment : layout->metadata) saved += segment.end - segment.begin;
  if (saved < file.size() / 64 || saved < 64) return file;
  strip(file, *layout, out_);
  return out_;
}

}  // namespace brim::detail
