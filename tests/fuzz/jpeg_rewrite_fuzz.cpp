// JPEGs made cheaper to keep: any bytes, rewritten, give the pixels or the refusal they gave
// before.
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>

#include "brim/dataloader/decode.h"
#include "dataloader/src/decode_rewrite.h"

namespace {

/// False: refused.
bool decodes(brim::Decoder& decoder, std::span<const std::byte> file,
             const brim::DecodeRequest& request, brim::Image& image) {
  try {
    decoder.decode(file, request, std::nullopt, image);
    return true;
  } catch (const brim::DecodeError&) {
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Fit = brim::DecodeRequest::Fit;
  const auto bytes = std::as_bytes(std::span(data, size));
  static brim::Decoder decoder({.max_pixels = 1 << 20, .max_bytes = 32 << 20});
  static brim::detail::JpegRewriter rewriter;
  static brim::Image before, after;
  // Pictures too large for a fuzzer's memory are left alone; so is what is no picture.
  try {
    decoder.inspect(bytes);
  } catch (const brim::DecodeError&) {
    return 0;
  }
  const std::span<const std::byte> kept = rewriter.rewrite(bytes);
  if (kept.data() == bytes.data() && kept.size() == bytes.size()) return 0;
  for (const brim::DecodeRequest& request :
       {brim::DecodeRequest{}, brim::DecodeRequest{Fit::ShortestSideAtLeast, 5}}) {
    const bool had = decodes(decoder, bytes, request, before);
    const bool has = decodes(decoder, kept, request, after);
    if (had != has) throw std::logic_error("refused before or after, not both");
    if (!had) continue;
    const auto left = before.bytes(), right = after.bytes();
    if (before.width() != after.width() || left.size() != right.size() ||
        std::memcmp(left.data(), right.data(), left.size()) != 0) {
      throw std::logic_error("other pixels");
    }
  }
  return 0;
}
