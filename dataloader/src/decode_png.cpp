#include "decode_png.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "brim/dataloader/decode.h"

namespace brim::detail {
namespace {

constexpr std::size_t kSignature = 8;
/// Deflate cannot pack tighter than this.
constexpr std::int64_t kBestCompression = 1032;

struct Chunk {
  std::string_view type{};
  Bytes data{};
  Bytes whole{};  ///< length, type, data, checksum
};

/// Walks the chunks of a file; `cut` tells that the file ends inside one.
class Chunks {
 public:
  explicit Chunks(Bytes file) : file_(file) {}

  bool next(Chunk& chunk) {
    if (file_.size() - at_ < 12) {
      cut = at_ < file_.size();
      return false;
    }
    const std::size_t length = big_endian(file_, at_, 4);
    chunk.type = {reinterpret_cast<const char*>(file_.data()) + at_ + 4, 4};
    const bool letters = std::ranges::all_of(
        chunk.type, [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); });
    if (!letters) throw DecodeError("damaged PNG: a chunk has no valid name");
    if (length > file_.size() - at_ - 12) {
      cut = true;
      return false;
    }
    chunk.whole = file_.subspan(at_, length + 12);
    chunk.data = chunk.whole.subspan(8, length);
    at_ += length + 12;
    return true;
  }

  bool cut = false;

 private:
  Bytes file_;
  std::size_t at_ = kSignature;
};

bool checksum_holds(const Chunk& chunk) {
  const Bytes covered = chunk.whole.subspan(4, chunk.data.size() + 4);
  const auto sum = crc32_z(0, reinterpret_cast<const Bytef*>(covered.data()), covered.size());
  return sum == big_endian(chunk.whole, chunk.whole.size() - 4, 4);
}

bool needed(std::string_view type) {
  return type == "IHDR" || type == "PLTE" || type == "tRNS" || type == "IDAT" || type == "IEND";
}

struct Layout {
  std::int64_t row_bits = 0;
  int depth = 0;
};

Layout read_ihdr(Bytes data, HeaderInfo& info) {
  const auto field = [&](std::size_t at) { return static_cast<int>(big_endian(data, at, 1)); };
  info.width = static_cast<std::int64_t>(big_endian(data, 0, 4));
  info.height = static_cast<std::int64_t>(big_endian(data, 4, 4));
  const int depth = field(8), colour = field(9);
  constexpr std::array<int, 7> kChannels{1, 0, 3, 1, 2, 0, 4};
  // Bit masks over depth: grey 1 2 4 8 16, palette 1 2 4 8, the others 8 16.
  constexpr std::array<int, 7> kDepths{0x10116, 0, 0x10100, 0x116, 0x10100, 0, 0x10100};
  constexpr std::int64_t kMost = 0x7FFFFFFF;
  if (colour > 6 || depth > 16 || (kDepths[colour] >> depth & 1) == 0 || field(10) != 0 ||
      field(11) != 0 || field(12) > 1 || info.width < 1 || info.height < 1 || info.width > kMost ||
      info.height > kMost) {
    throw DecodeError("damaged PNG: its header has an impossible value");
  }
  return {info.width * depth * kChannels[colour], depth};
}

}  // namespace

HeaderInfo read_png_header(Bytes file) {
  HeaderInfo info{.format = Format::Png, .name = "png"};
  Chunks chunks(file);
  Chunk chunk;
  if (!chunks.next(chunk)) throw DecodeError("truncated PNG: the file ends inside its header");
  if (chunk.type != "IHDR" || chunk.data.size() != 13 || !checksum_holds(chunk)) {
    throw DecodeError("damaged PNG: its header chunk is not valid");
  }
  const Layout layout = read_ihdr(chunk.data, info);
  std::int64_t packed = 0;
  bool ended = false;
  while (!ended && chunks.next(chunk)) {
    if (chunk.type == "IDAT") {
      packed += static_cast<std::int64_t>(chunk.data.size());
    } else if (chunk.type == "eXIf") {
      info.orientation = exif_orientation(chunk.data);
    } else if (chunk.type == "IEND") {
      ended = true;
    } else if (needed(chunk.type) && !checksum_holds(chunk)) {
      throw DecodeError("damaged PNG: chunk " + std::string(chunk.type) + " has a wrong checksum");
    } else if (chunk.type[0] <= 'Z' && !needed(chunk.type)) {
      throw DecodeError("PNG with an unknown necessary chunk " + std::string(chunk.type));
    }
  }
  const auto row_bytes = layout.row_bits / 8 + 1;
  if (packed == 0 || row_bytes > (packed * kBestCompression + 1024) / info.height + 1) {
    throw DecodeError("truncated PNG: " + std::to_string(packed) +
                      " bytes of image data cannot hold " + std::to_string(info.width) + "x" +
                      std::to_string(info.height) + " pixels");
  }
  if (!ended) info.truncated = chunks.cut ? "the file ends inside a chunk" : "no IEND chunk";
  return info;
}

Bytes essential_png(Bytes file, std::vector<std::byte>& buffer) {
  constexpr std::array<unsigned char, 12> kEnd{0,   0,   0,    0,    'I',  'E',
                                               'N', 'D', 0xAE, 0x42, 0x60, 0x82};
  Chunks chunks(file);
  Chunk chunk;
  bool ended = false, clean = true;
  while (!ended && chunks.next(chunk)) {
    ended = chunk.type == "IEND";
    clean = clean && needed(chunk.type);
  }
  if (clean && ended) return file;
  buffer.clear();
  buffer.reserve(file.size() + kEnd.size());
  const auto append = [&](Bytes bytes) { buffer.insert(buffer.end(), bytes.begin(), bytes.end()); };
  append(file.first(kSignature));
  for (chunks = Chunks(file); chunks.next(chunk) && chunk.type != "IEND";) {
    if (needed(chunk.type)) append(chunk.whole);
  }
  append(std::as_bytes(std::span(kEnd)));
  return buffer;
}

std::string png_damage(Bytes file) {
  Chunks chunks(file);
  Chunk chunk;
  while (chunks.next(chunk)) {
    if (needed(chunk.type) && !checksum_holds(chunk)) {
      return "chunk " + std::string(chunk.type) + " has a wrong checksum";
    }
    if (chunk.type == "IEND") break;
  }
  return {};
}

}  // namespace brim::detail
