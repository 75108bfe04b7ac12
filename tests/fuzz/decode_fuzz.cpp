// Any bytes give an image or a DecodeError. The last two bytes choose what is asked for.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>

#include "brim/dataloader/decode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Fit = brim::DecodeRequest::Fit;
  static brim::Decoder strict({.max_pixels = 1 << 20, .max_bytes = 32 << 20});
  static brim::Decoder tolerant(
      {.truncated = brim::Truncated::Accept, .max_pixels = 1 << 20, .max_bytes = 32 << 20});
  static brim::Image image;
  const unsigned choice = size < 2 ? 0 : data[size - 1] * 256u + data[size - 2];
  const brim::DecodeRequest request{static_cast<Fit>(choice % 3), static_cast<int>(choice % 97)};
  std::optional<brim::RegionF> region;
  if (choice & 1) region = brim::RegionF{choice % 11 / 11.0, choice % 13 / 13.0, 0.3, 0.4};
  try {
    const auto bytes = std::as_bytes(std::span(data, size));
    brim::Decoder& decoder = choice & 2 ? tolerant : strict;
    const brim::DecodedInfo info = decoder.decode(bytes, request, region, image);
    if (image.width() < 1 || image.height() < 1 ||
        info.region_x + image.width() > info.full_width ||
        info.region_y + image.height() > info.full_height) {
      std::abort();
    }
  } catch (const brim::DecodeError&) {
  }
  return 0;
}
