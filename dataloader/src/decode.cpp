#include "brim/dataloader/decode.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include <jpeglib.h>
#include <opencv2/core/version.hpp>

#include "decode_area.h"
#include "decode_header.h"
#include "decode_jpeg.h"
#include "decode_opencv.h"
#include "decode_orient.h"
#include "decode_plan.h"

namespace brim {
namespace {
using namespace detail;

constexpr std::size_t kRetainedBytes = std::size_t{4} << 20;

std::string size_text(std::int64_t width, std::int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

void check_pixels(std::int64_t width, std::int64_t height, const DecodeLimits& limits) {
  if (width > INT_MAX || height > INT_MAX ||
      width > limits.max_pixels / std::max<std::int64_t>(height, 1)) {
    throw DecodeError("image of " + size_text(width, height) + " is larger than the limit of " +
                      std::to_string(limits.max_pixels) + " pixels");
  }
}

}  // namespace

struct Decoder::Impl {
  explicit Impl(const DecodeLimits& given) : limits(given), jpeg(given) {}

  DecodedInfo decode_jpeg(Bytes file, const DecodeRequest& request, const RegionChoice& choose,
                          Image& image);
  DecodedInfo decode_other(Bytes file, const DecodeRequest& request, Image& image);
  void check_called_off() const {
    if (called_off != nullptr && called_off->load(std::memory_order_relaxed)) throw CalledOff();
  }
  void check_bytes(const HeaderInfo& header, const DecodePlan& plan) const;
  /// Stored pixels to upright ones of the plan's size.
  void finish(const ImageView& stored, int orientation, const DecodePlan& plan, Image& image);

  DecodeLimits limits;
  const std::atomic<bool>* called_off = nullptr;
  JpegDecoder jpeg;
  OpenCvDecoder opencv{};
  AreaReducer reducer{};
  Image scratch{};
};

Decoder::Decoder(const DecodeLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

void Decoder::call_off_when(const std::atomic<bool>& flag) {
  impl_->called_off = &flag;
  impl_->jpeg.call_off_when(flag);
}

ImageInfo Decoder::inspect(std::span<const std::byte> encoded, const DecodeRequest& request) {
  ImageInfo info;
  std::int64_t width = 0, height = 0;
  const bool jpeg = sniff(encoded) == Format::Jpeg;
  if (jpeg) {
    const JpegHeader header = impl_->jpeg.read_header(encoded);
    info.format = header.progressive ? "progressive jpeg" : "jpeg";
    if (header.arithmetic) info.format = "arithmetic " + info.format;
    info.orientation = header.orientation;
    width = header.width;
    height = header.height;
  } else {
    const HeaderInfo header = read_header(encoded);
    info.format = header.name;
    info.orientation = header.orientation;
    width = header.width;
    height = header.height;
  }
  check_pixels(width, height, impl_->limits);
  if (transposes(info.orientation)) std::swap(width, height);
  info.width = static_cast<int>(width);
  info.height = static_cast<int>(height);
  const DecodePlan plan =
      plan_decode(info.width, info.height, request, jpeg ? DctScaling::Yes : DctScaling::No);
  info.scale_denominator = plan.denominator;
  info.plan =
      describe_plan(plan, jpeg ? "libjpeg-turbo" : "opencv " + info.format, info.orientation);
  return info;
}

DecodedInfo Decoder::decode(std::span<const std::byte> encoded, const DecodeRequest& request,
                            const std::optional<RegionF>& region, Image& image) {
  return decode_chosen(
      encoded, request, [&region](int, int) { return region; }, image);
}

DecodedInfo Decoder::decode_chosen(std::span<const std::byte> encoded, const DecodeRequest& request,
                                   const RegionChoice& choose, Image& image) {
  impl_->check_called_off();
  return sniff(encoded) == Format::Jpeg ? impl_->decode_jpeg(encoded, request, choose, image)
                                        : impl_->decode_other(encoded, request, image);
}

DecodedInfo Decoder::Impl::decode_jpeg(Bytes file, const DecodeRequest& request,
                                       const RegionChoice& choose, Image& image) {
  const JpegHeader header = jpeg.read_header(file);
  check_pixels(header.width, header.height, limits);
  const bool swapped = transposes(header.orientation);
  DecodedInfo info{.original_width = swapped ? header.height : header.width,
                   .original_height = swapped ? header.width : header.height};
  const DecodePlan plan =
      plan_decode(info.original_width, info.original_height, request, DctScaling::Yes);
  info.full_width = plan.full_width;
  info.full_height = plan.full_height;

  Rect part{0, 0, plan.scaled_width, plan.scaled_height};
  std::optional<RegionF> region;
  if (request.fit != DecodeRequest::Fit::LongestSide) {
    region = choose(info.original_width, info.original_height);
  }
  if (region) {
    part = to_pixels(*region, plan.scaled_width, plan.scaled_height);
    info.region_x = part.x;
    info.region_y = part.y;
  }
  JpegPlan how{.denominator = plan.denominator};
  how.crop = to_stored(part, header.orientation, swapped ? plan.scaled_height : plan.scaled_width,
                       swapped ? plan.scaled_width : plan.scaled_height);
  how.reduced_width = how.crop.width;
  how.reduced_height = how.crop.height;
  if (plan.reduces()) {
    how.reduced_width = swapped ? plan.full_height : plan.full_width;
    how.reduced_height = swapped ? plan.full_width : plan.full_height;
  }
  jpeg.decode(how, image);
  return info;
}

DecodedInfo Decoder::Impl::decode_other(Bytes file, const DecodeRequest& request, Image& image) {
  const HeaderInfo header = read_header(file);
  check_pixels(header.width, header.height, limits);
  if (!header.truncated.empty() && limits.truncated == Truncated::Reject) {
    throw DecodeError("truncated " + header.name + ": " + header.truncated);
  }
  const int width = static_cast<int>(header.width), height = static_cast<int>(header.height);
  const bool swapped = transposes(header.orientation);
  const DecodePlan plan =
      plan_decode(swapped ? height : width, swapped ? width : height, request, DctScaling::No);
  check_bytes(header, plan);
  const int orientation = header.decoder_orients ? 1 : header.orientation;
  if (orientation == 1 && !plan.reduces()) {
    opencv.decode(file, header, image);
  } else {
    opencv.decode(file, header, scratch);
    check_called_off();
    finish(scratch.view(), orientation, plan, image);
    if (scratch.capacity() > kRetainedBytes) scratch = Image();
  }
  return {.original_width = plan.scaled_width,
          .original_height = plan.scaled_height,
          .full_width = plan.full_width,
          .full_height = plan.full_height};
}

void Decoder::Impl::check_bytes(const HeaderInfo& header, const DecodePlan& plan) const {
  if (limits.max_bytes == 0) return;
  const std::int64_t pixels = header.width * header.height;
  std::int64_t need = (3 + header.scratch_per_pixel) * pixels;
  if (plan.reduces() || (header.orientation != 1 && !header.decoder_orients)) {
    need += std::int64_t{3} * plan.full_width * plan.full_height;
  }
  if (need > limits.max_bytes) {
    throw DecodeError(header.name + " of " + size_text(header.width, header.height) + " needs " +
                      std::to_string(need) + " bytes to decode, " +
                      std::to_string(limits.max_bytes) + " are allowed");
  }
}

void Decoder::Impl::finish(const ImageView& stored, int orientation, const DecodePlan& plan,
                           Image& image) {
  image.resize(plan.full_width, plan.full_height);
  const UprightWriter writer(image.mutable_view(), orientation);
  if (!plan.reduces()) {
    for (int y = 0; y < stored.height; y += 16) {
      writer.put(y, std::min(16, stored.height - y), stored.row(y), stored.stride);
    }
    return;
  }
  const bool swapped = transposes(orientation);
  reducer.begin(stored.width, stored.height, swapped ? plan.full_height : plan.full_width,
                swapped ? plan.full_width : plan.full_height);
  int done = 0;
  for (int y = 0; y < stored.height; ++y) {
    if (const std::uint8_t* row = reducer.push(stored.row(y))) writer.put(done++, 1, row, 0);
  }
}

DecodedInfo Decoder::convert_gray(std::span<const std::byte> gray, int width, int height,
                                  const DecodeRequest& request, Image& image) {
  impl_->check_called_off();
  check_pixels(width, height, impl_->limits);
  if (width < 1 || height < 1 ||
      gray.size() != static_cast<std::size_t>(width) * static_cast<std::size_t>(height)) {
    throw DecodeError("expected " + size_text(width, height) + " grey pixels, found " +
                      std::to_string(gray.size()) + " bytes");
  }
  const DecodePlan plan = plan_decode(width, height, request, DctScaling::No);
  Image& rgb = plan.reduces() ? impl_->scratch : image;
  rgb.resize(width, height);
  std::uint8_t* to = rgb.mutable_view().data;
  for (const std::byte value : gray) {
    to[0] = to[1] = to[2] = std::to_integer<std::uint8_t>(value);
    to += 3;
  }
  if (plan.reduces()) impl_->finish(rgb.view(), 1, plan, image);
  return {.original_width = width,
          .original_height = height,
          .full_width = plan.full_width,
          .full_height = plan.full_height};
}

std::string decode_recipe(const DecodeRequest& request, const DecodeLimits& limits) {
  using Fit = DecodeRequest::Fit;
  std::string text = "decode:v2 rgb8 libjpeg-turbo-" +
                     std::to_string(LIBJPEG_TURBO_VERSION_NUMBER) + " opencv-" CV_VERSION " ";
  if (request.fit == Fit::Full) text += "full";
  if (request.fit == Fit::LongestSide) text += "longest=" + std::to_string(request.size);
  if (request.fit == Fit::ShortestSideAtLeast) text += "shortest>=" + std::to_string(request.size);
  return text + (limits.truncated == Truncated::Accept ? " truncated=accept" : " truncated=reject");
}

}  // namespace brim
