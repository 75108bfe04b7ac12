#include "brim/dataloader/letterbox.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace brim {
namespace {

/// Half to even, whatever rounding mode or compiler: nearbyint under the default mode.
int round_even(double value) {
  return static_cast<int>(std::nearbyint(value));
}

}  // namespace

LetterboxGeometry letterbox_geometry(Size image, Size wanted, const LetterboxOptions& options) {
  LetterboxGeometry g;
  double ratio = std::min(static_cast<double>(wanted.width) / image.width,
                          static_cast<double>(wanted.height) / image.height);
  if (options.scale == LetterboxScale::ReduceOnly) ratio = std::min(ratio, 1.0);
  g.ratio_x = g.ratio_y = ratio;
  g.resized = {std::max(1, round_even(image.width * ratio)),
               std::max(1, round_even(image.height * ratio))};
  int spare_x = wanted.width - g.resized.width;
  int spare_y = wanted.height - g.resized.height;
  if (options.fill == LetterboxFill::Stride) {
    spare_x %= options.stride;
    spare_y %= options.stride;
  } else if (options.fill == LetterboxFill::Stretch) {
    spare_x = spare_y = 0;
    g.resized = wanted;
    g.ratio_x = static_cast<double>(wanted.width) / image.width;
    g.ratio_y = static_cast<double>(wanted.height) / image.height;
  }
  g.pad_x = spare_x / 2.0;
  g.pad_y = spare_y / 2.0;
  g.left = spare_x / 2;
  g.top = spare_y / 2;
  g.right = spare_x - g.left;
  g.bottom = spare_y - g.top;
  g.out = {g.resized.width + spare_x, g.resized.height + spare_y};
  return g;
}

BoxF box_to_pixels(float cx, float cy, float width, float height, Size image, float pad_x,
                   float pad_y) {
  const auto w = static_cast<float>(image.width), h = static_cast<float>(image.height);
  return {w * (cx - width / 2) + pad_x, h * (cy - height / 2) + pad_y, w * (cx + width / 2) + pad_x,
          h * (cy + height / 2) + pad_y};
}

Target box_to_fractions(BoxF box, Size image, float margin) {
  const auto w = static_cast<float>(image.width), h = static_cast<float>(image.height);
  const float x1 = std::clamp(box.x1, 0.0f, w - margin), x2 = std::clamp(box.x2, 0.0f, w - margin);
  const float y1 = std::clamp(box.y1, 0.0f, h - margin), y2 = std::clamp(box.y2, 0.0f, h - margin);
  return {0, (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h};
}

BoxF clip_box(BoxF box, Size image) {
  const auto w = static_cast<float>(image.width), h = static_cast<float>(image.height);
  return {std::clamp(box.x1, 0.0f, w), std::clamp(box.y1, 0.0f, h), std::clamp(box.x2, 0.0f, w),
          std::clamp(box.y2, 0.0f, h)};
}

BoxF unletterbox_box(BoxF box, Size padded, Size original) {
  const double gain = std::min(static_cast<double>(padded.width) / original.width,
                               static_cast<double>(padded.height) / original.height);
  const double pad_x = (padded.width - original.width * gain) / 2;
  const double pad_y = (padded.height - original.height * gain) / 2;
  const auto back = [gain](float value, double pad) {
    return static_cast<float>((value - pad) / gain);
  };
  return clip_box(
      {back(box.x1, pad_x), back(box.y1, pad_y), back(box.x2, pad_x), back(box.y2, pad_y)},
      original);
}

bool keep_box(const BoxF& before, const BoxF& after, const BoxFilter& filter) {
  constexpr float kTiny = 1e-16f;
  const float w1 = before.x2 - before.x1, h1 = before.y2 - before.y1;
  const float w2 = after.x2 - after.x1, h2 = after.y2 - after.y1;
  const float aspect = std::max(w2 / (h2 + kTiny), h2 / (w2 + kTiny));
  return w2 > filter.min_side && h2 > filter.min_side &&
         w2 * h2 / (w1 * h1 + kTiny) > filter.min_area_ratio && aspect < filter.max_aspect;
}

void letterbox_pixels(const ImageView& image, const LetterboxGeometry& geometry,
                      BilinearResizer& resizer, const MutableImageView& out) {
  const auto row_bytes = static_cast<std::size_t>(out.width) * 3;
  for (int y = 0; y < geometry.top; ++y) std::memset(out.row(y), kPadGrey, row_bytes);
  for (int y = out.height - geometry.bottom; y < out.height; ++y) {
    std::memset(out.row(y), kPadGrey, row_bytes);
  }
  const auto left_bytes = static_cast<std::size_t>(geometry.left) * 3;
  const auto image_bytes = static_cast<std::size_t>(geometry.resized.width) * 3;
  for (int y = geometry.top; y < out.height - geometry.bottom; ++y) {
    std::memset(out.row(y), kPadGrey, left_bytes);
    std::memset(out.row(y) + left_bytes + image_bytes, kPadGrey,
                row_bytes - left_bytes - image_bytes);
  }
  resizer.resize(image, {out.row(geometry.top) + left_bytes, geometry.resized.width,
                         geometry.resized.height, out.stride});
}

}  // namespace brim
