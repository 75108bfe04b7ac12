#include <algorithm>
#include <cstring>

#include "decode_jpeg.h"
#include "decode_reduced.h"

// The part of JpegDecoder that runs inside libjpeg's error handling: nothing here may own memory.
namespace brim::detail {
namespace {

constexpr int kStripRows = 16;
/// Fancy upsampling mixes neighbours at the edges of a cut: decode this much more and drop it.
constexpr int kMargin = 8;

/// libjpeg-turbo misplaces the cut where chroma is both scaled less than luma and upsampled
/// sideways (4:1:0 at 1/2 and 1/4): rows are then decoded whole.
bool cuts_columns_exactly(const jpeg_decompress_struct& cinfo) {
  return cinfo.scale_denom == 1 || cinfo.max_h_samp_factor <= 2;
}

/// Four inverted (Adobe) inks to RGB, in place: colour times black, rounded as OpenCV does.
void cmyk_to_rgb(std::uint8_t* row, int width) {
  std::uint8_t* to = row;
  for (const std::uint8_t* from = row; width-- > 0; from += 4, to += 3) {
    const int black = from[3];
    const int red = black - ((255 - from[0]) * black >> 8);
    const int green = black - ((255 - from[1]) * black >> 8);
    const int blue = black - ((255 - from[2]) * black >> 8);
    to[0] = static_cast<std::uint8_t>(red);
    to[1] = static_cast<std::uint8_t>(green);
    to[2] = static_cast<std::uint8_t>(blue);
  }
}

}  // namespace

void JpegDecoder::start(const JpegPlan& plan, Entropy entropy) {
  cinfo_.scale_num = 1;
  cinfo_.scale_denom = static_cast<unsigned>(plan.denominator);
  const bool inks = cinfo_.jpeg_color_space == JCS_CMYK || cinfo_.jpeg_color_space == JCS_YCCK;
  cinfo_.out_color_space = inks ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&cinfo_);
  const bool reduced = replace_reduced_transforms(cinfo_);
  if (entropy == Entropy::Fast && huffman_.begin(cinfo_, reduced, arena_)) {
    replace_entropy_decoder(cinfo_, on_mcu);
  }
}

std::uint8_t* JpegDecoder::take_rows(int rows, std::size_t stride) {
  void* const memory = arena_.take(static_cast<std::size_t>(rows) * stride);
  if (memory == nullptr) on_out_of_memory(reinterpret_cast<j_common_ptr>(&cinfo_));
  return static_cast<std::uint8_t*>(memory);
}

void JpegDecoder::read_in_place(const UprightWriter& writer) {
  const int height = static_cast<int>(cinfo_.output_height);
  for (int y = 0; y < height; y = static_cast<int>(cinfo_.output_scanline)) {
    JSAMPROW rows[kStripRows];
    const int count = std::min(kStripRows, height - y);
    for (int i = 0; i < count; ++i) rows[i] = writer.row_in_place(y + i);
    jpeg_read_scanlines(&cinfo_, rows, static_cast<JDIMENSION>(count));
  }
}

void JpegDecoder::read_strips(const JpegPlan& plan, const UprightWriter& writer) {
  const Rect& crop = plan.crop;
  JDIMENSION left = 0;
  if (crop.width < static_cast<int>(cinfo_.output_width) && cuts_columns_exactly(cinfo_)) {
    left = static_cast<JDIMENSION>(std::max(0, crop.x - kMargin));
    JDIMENSION width =
        std::min(static_cast<JDIMENSION>(crop.x + crop.width + kMargin), cinfo_.output_width) -
        left;
    jpeg_crop_scanline(&cinfo_, &left, &width);
  }
  const std::size_t stride = std::size_t{4} * cinfo_.output_width;
  strip_ = take_rows(kStripRows, stride);
  reduced_ = take_rows(kStripRows, std::size_t{3} * plan.reduced_width);
  reduced_count_ = reduced_first_ = 0;
  const bool inks = cinfo_.out_color_space == JCS_CMYK;
  const std::size_t offset = 3 * (static_cast<std::size_t>(crop.x) - left);
  if (crop.y > 0) jpeg_skip_scanlines(&cinfo_, static_cast<JDIMENSION>(crop.y));
  for (int y = 0; y < crop.height;) {
    const int count = std::min(kStripRows, crop.height - y);
    JSAMPROW rows[kStripRows];
    for (int i = 0; i < count; ++i) rows[i] = strip_ + static_cast<std::size_t>(i) * stride;
    for (int got = 0; got < count;) {
      got += static_cast<int>(
          jpeg_read_scanlines(&cinfo_, rows + got, static_cast<JDIMENSION>(count - got)));
    }
    for (int i = 0; inks && i < count; ++i) {
      cmyk_to_rgb(rows[i], static_cast<int>(cinfo_.output_width));
    }
    store(plan, writer, y, count, strip_ + offset, static_cast<std::ptrdiff_t>(stride));
    y += count;
  }
}

void JpegDecoder::store(const JpegPlan& plan, const UprightWriter& writer, int first, int count,
                        const std::uint8_t* rows, std::ptrdiff_t stride) {
  if (plan.reduced_width == plan.crop.width && plan.reduced_height == plan.crop.height) {
    writer.put(first, count, rows, stride);
    return;
  }
  const std::size_t bytes = std::size_t{3} * plan.reduced_width;
  for (int i = 0; i < count; ++i) {
    const std::uint8_t* const row = reducer_.push(rows + i * stride);
    if (row == nullptr) continue;
    std::memcpy(reduced_ + static_cast<std::size_t>(reduced_count_++) * bytes, row, bytes);
    const bool last = reduced_first_ + reduced_count_ == plan.reduced_height;
    if (reduced_count_ < kStripRows && !last) continue;
    writer.put(reduced_first_, reduced_count_, reduced_, static_cast<std::ptrdiff_t>(bytes));
    reduced_first_ += reduced_count_;
    reduced_count_ = 0;
  }
}

/// What lies behind the wanted rows is read too, without making pixels of it: a damaged file is
/// found whichever part of it is wanted.
void JpegDecoder::read_to_end() {
  const bool skim = limits_.truncated == Truncated::Reject;
  const JDIMENSION left = cinfo_.output_height - cinfo_.output_scanline;
  if (left > 0) {
    if (!skim) {
      jpeg_abort_decompress(&cinfo_);
      return;
    }
    if (left > 1) jpeg_skip_scanlines(&cinfo_, left - 1);
    JSAMPROW row = strip_;
    jpeg_read_scanlines(&cinfo_, &row, 1);
  }
  jpeg_finish_decompress(&cinfo_);
}

}  // namespace brim::detail
