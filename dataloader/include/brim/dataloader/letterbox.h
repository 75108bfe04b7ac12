#pragma once

#include <memory>

#include "brim/dataloader/transform.h"

namespace brim {

/// Grey that surrounds every letterboxed or warped image (each of R, G, B).
inline constexpr int kPadGrey = 114;

struct Size {
  int width = 0, height = 0;
};

/// Corners of a box, pixels or fractions; x grows to the right, y down.
struct BoxF {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  bool operator==(const BoxF&) const = default;
};

enum class LetterboxFill : unsigned char {
  Fixed,    ///< the result has exactly the wanted size
  Stride,   ///< only padded to the next multiple of `stride` (rectangular inference)
  Stretch,  ///< no padding: the aspect ratio is given up
};
enum class LetterboxScale : unsigned char {
  Both,        ///< small images are enlarged
  ReduceOnly,  ///< small images keep their size
};

struct LetterboxOptions {
  LetterboxFill fill = LetterboxFill::Fixed;
  LetterboxScale scale = LetterboxScale::Both;
  int stride = 32;
};

/// Where a resized image lies within its padded result. All pixels.
struct LetterboxGeometry {
  double ratio_x = 1, ratio_y = 1;  ///< wanted / stored, before rounding to whole pixels
  double pad_x = 0, pad_y = 0;      ///< half of the padding, before rounding
  Size resized{};                   ///< of the image within the result
  int left = 0, top = 0, right = 0, bottom = 0;
  Size out{};
};

/// Geometry that brings `image` into `wanted` with YOLOv5's rounding (half to even, the odd pixel
/// of padding right and below). Both sizes positive.
LetterboxGeometry letterbox_geometry(Size image, Size wanted, const LetterboxOptions& options = {});

/// Fractions (centre, size) of an image of `image` pixels to corner pixels, shifted by the padding.
BoxF box_to_pixels(float cx, float cy, float width, float height, Size image, float pad_x = 0,
                   float pad_y = 0);
/// Corner pixels to fractions of `image`, clipped to [0, size - margin]. The result's fields are
/// class 0, centre and size.
Target box_to_fractions(BoxF box, Size image, float margin = 0);
/// `box` limited to [0, width] x [0, height].
BoxF clip_box(BoxF box, Size image);
/// A box of a letterboxed picture of size `padded` brought back to the original and clipped.
BoxF unletterbox_box(BoxF box, Size padded, Size original);

/// What augmentation may leave of a box for it to stay a target.
struct BoxFilter {
  float min_side = 2.0f;        ///< pixels; wider and higher than this
  float min_area_ratio = 0.1f;  ///< of the area before; 0.01 for boxes drawn around a polygon
  float max_aspect = 100.0f;
};
/// Whether `after` is still worth learning, `before` being the box scaled like the image.
bool keep_box(const BoxF& before, const BoxF& after, const BoxFilter& filter = {});

/// Bilinear resize of RGB pixels, every value equal to OpenCV's INTER_LINEAR (11-bit weights; an
/// exact halving averages 2x2). Keeps its working memory
/// between calls; one per thread.
struct ResizeScratch;
class BilinearResizer {
 public:
  BilinearResizer();
  ~BilinearResizer();
  BilinearResizer(BilinearResizer&&) noexcept;
  BilinearResizer& operator=(BilinearResizer&&) noexcept;
  void resize(const ImageView& from, const MutableImageView& to);

 private:
  std::unique_ptr<ResizeScratch> scratch_;
};

/// Writes `image`, resized by `resizer` where needed, at its place in `out` and grey around it.
/// `out` has the size geometry.out.
void letterbox_pixels(const ImageView& image, const LetterboxGeometry& geometry,
                      BilinearResizer& resizer, const MutableImageView& out);

}  // namespace brim
