#include <algorithm>
#include <cmath>

#include "augment_settings.h"
#include "colour.h"
#include "warp_resample.h"

namespace brim {
namespace {

using namespace detail;

struct CropScratch : TransformScratch {
  Resampler resampler;
  PixelRow row;
};

/// Part of an upright image, whole pixels.
struct Crop {
  int x = 0, y = 0, width = 0, height = 0;
};

RegionF fractions(const Crop& crop, int width, int height) {
  return {static_cast<double>(crop.x) / width, static_cast<double>(crop.y) / height,
          static_cast<double>(crop.width) / width, static_cast<double>(crop.height) / height};
}

Size upright_size(const Source& source) {
  if (source.info.original_width > 0 && source.info.original_height > 0) {
    return {source.info.original_width, source.info.original_height};
  }
  return {source.pixels.width, source.pixels.height};
}

/// `crop` of the upright image in coordinates of the pixels at hand (scaled, perhaps a region).
RectD within_pixels(const Crop& crop, const Source& source) {
  const Size upright = upright_size(source);
  const int full_width = source.info.full_width > 0 ? source.info.full_width : upright.width;
  const int full_height = source.info.full_height > 0 ? source.info.full_height : upright.height;
  const double sx = static_cast<double>(full_width) / upright.width;
  const double sy = static_cast<double>(full_height) / upright.height;
  return {crop.x * sx - source.info.region_x, crop.y * sy - source.info.region_y,
          (crop.x + crop.width) * sx - source.info.region_x,
          (crop.y + crop.height) * sy - source.info.region_y};
}

void paint(const Source& source, const Crop& crop, Flips flips, const ColourGains& gains,
           CropScratch& work, const MutableImageView& out) {
  work.row.resize(out.width);
  work.resampler.plan(source.pixels, within_pixels(crop, source), {out.width, out.height}, flips);
  for (int y = 0; y < out.height; ++y) {
    work.resampler.row(y, work.row);
    write_coloured(gains, work.row, 0, out.width, out.row(y), work.resampler.isa());
  }
}

class ClassificationTransform final : public Transform {
 public:
  ClassificationTransform(int size, const ClassificationAugmentation& augmentation)
      : size_(size), augmentation_(augmentation) {
    check_side(size, "size");
    check(augmentation);
  }

  int width() const override { return size_; }
  int height() const override { return size_; }
  /// Twice the sample's side: a crop of a quarter of the area still has a pixel for every pixel.
  DecodeRequest decode_request() const override {
    return {DecodeRequest::Fit::ShortestSideAtLeast, 2 * size_};
  }
  std::optional<RegionF> region(const Recipe& recipe, int, int width, int height) const override {
    if (width <= 0 || height <= 0) return std::nullopt;
    return fractions(draw_crop(recipe.key, {width, height}), width, height);
  }
  std::unique_ptr<TransformScratch> make_scratch() const override {
    return std::make_unique<CropScratch>();
  }
  std::string describe() const override {
    return "classification 3 size=" + std::to_string(size_) + detail::describe(augmentation_);
  }

  void apply(const Recipe& recipe, std::span<const Source> sources, TransformScratch* scratch,
             SampleOut& out) const override {
    std::unique_ptr<CropScratch> own;
    auto& work = scratch_as<CropScratch>(scratch, own);
    Generator flip(recipe.key, Purpose::Flip), colour(recipe.key, Purpose::Colour);
    const bool up_down = flip.chance(augmentation_.flipud);
    const Flips flips{up_down, flip.chance(augmentation_.fliplr)};
    const ColourGains gains =
        draw_gains(colour, augmentation_.hsv_h, augmentation_.hsv_s, augmentation_.hsv_v);
    const Source& source = sources[0];
    paint(source, draw_crop(recipe.key, upright_size(source)), flips, gains, work, out.pixels);
    out.class_id = source.record.class_id;
    out.placement.original_width = upright_size(source).width;
    out.placement.original_height = upright_size(source).height;
  }

 private:
  /// Random-resized-crop as torchvision documents it: ten tries at a drawn area and aspect, then
  /// the largest central crop whose aspect is allowed.
  Crop draw_crop(std::uint64_t key, Size image) const {
    Generator generator(key, Purpose::Crop);
    const double area = static_cast<double>(image.width) * image.height;
    const double low = std::log(augmentation_.min_aspect),
                 high = std::log(augmentation_.max_aspect);
    for (int attempt = 0; attempt < 10; ++attempt) {
      const double wanted = area * generator.uniform(augmentation_.min_area, 1.0);
      const double aspect = std::exp(generator.uniform(low, high));
      const auto w = static_cast<int>(std::lround(std::sqrt(wanted * aspect)));
      const auto h = static_cast<int>(std::lround(std::sqrt(wanted / aspect)));
      if (w < 1 || h < 1 || w > image.width || h > image.height) continue;
      const auto place = [&](int spare) {
        return static_cast<int>(generator.below(static_cast<std::uint64_t>(spare) + 1));
      };
      const int y = place(image.height - h);
      return {place(image.width - w), y, w, h};
    }
    return central_crop(image);
  }

  Crop central_crop(Size image) const {
    const double aspect = static_cast<double>(image.width) / image.height;
    int w = image.width, h = image.height;
    if (aspect < augmentation_.min_aspect) {
      h = std::max(1, static_cast<int>(std::lround(w / augmentation_.min_aspect)));
    } else if (aspect > augmentation_.max_aspect) {
      w = std::max(1, static_cast<int>(std::lround(h * augmentation_.max_aspect)));
    }
    w = std::min(w, image.width);
    h = std::min(h, image.height);
    return {(image.width - w) / 2, (image.height - h) / 2, w, h};
  }

  int size_;
  ClassificationAugmentation augmentation_;
};

class CenterCropTransform final : public Transform {
 public:
  explicit CenterCropTransform(int size) : size_(size) { check_side(size, "size"); }

  int width() const override { return size_; }
  int height() const override { return size_; }
  DecodeRequest decode_request() const override {
    return {DecodeRequest::Fit::ShortestSideAtLeast, size_};
  }
  std::optional<RegionF> region(const Recipe&, int, int width, int height) const override {
    if (width <= 0 || height <= 0) return std::nullopt;
    return fractions(central_square({width, height}), width, height);
  }
  std::unique_ptr<TransformScratch> make_scratch() const override {
    return std::make_unique<CropScratch>();
  }
  std::string describe() const override { return "center-crop 2 size=" + std::to_string(size_); }

  void apply(const Recipe&, std::span<const Source> sources, TransformScratch* scratch,
             SampleOut& out) const override {
    std::unique_ptr<CropScratch> own;
    auto& work = scratch_as<CropScratch>(scratch, own);
    const Source& source = sources[0];
    const Size upright = upright_size(source);
    const Crop crop = central_square(upright);
    paint(source, crop, {}, {}, work, out.pixels);
    out.class_id = source.record.class_id;
    const float scale = static_cast<float>(size_) / static_cast<float>(crop.width);
    out.placement = {upright.width,
                     upright.height,
                     scale,
                     scale,
                     -static_cast<float>(crop.x) * scale,
                     -static_cast<float>(crop.y) * scale};
  }

 private:
  static Crop central_square(Size image) {
    const int side = std::min(image.width, image.height);
    return {(image.width - side) / 2, (image.height - side) / 2, side, side};
  }

  int size_;
};

}  // namespace

std::shared_ptr<const Transform> make_classification_transform(
    int size, const ClassificationAugmentation& augmentation) {
  return std::make_shared<ClassificationTransform>(size, augmentation);
}

std::shared_ptr<const Transform> make_center_crop_transform(int size) {
  return std::make_shared<CenterCropTransform>(size);
}

}  // namespace brim
