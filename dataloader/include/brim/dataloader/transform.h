#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/decode.h"
#include "brim/dataloader/image.h"
#include "brim/dataloader/random.h"

namespace brim {

/// Most sources one sample can have: mixup of two mosaics of nine.
inline constexpr int kMaxSources = 18;

/// Everything random about one sample, fixed before any pixel is read: which dataset samples it
/// is made of (the first is the sample itself) and the key from which a Transform derives crops,
/// flips and gains through `Generator(key, purpose)`.
struct Recipe {
  std::uint64_t key = 0;
  std::int64_t epoch = 0;
  int source_count = 1;
  std::array<std::int64_t, kMaxSources> sources{};  ///< dataset indices
};

/// Gives a Transform its partner samples; how they are drawn (window or uniform) is the loader's.
class PartnerDraw {
 public:
  virtual ~PartnerDraw() = default;
  virtual std::int64_t draw() = 0;
};

/// A decoded source and what it is labelled with.
struct Source {
  ImageView pixels{};
  DecodedInfo info{};
  Record record{};
};

/// One training target of a sample: class, box as fractions of the sample (cx, cy, width, height).
struct Target {
  float class_id = 0, cx = 0, cy = 0, width = 0, height = 0;
};

/// How an evaluated sample lies in its original image: x_sample = x_image * scale_x + pad_x.
struct Placement {
  int original_width = 0, original_height = 0;
  float scale_x = 1, scale_y = 1, pad_x = 0, pad_y = 0;
};

/// Where a Transform puts its result. `pixels` is a slot of the batch; every pixel of it is
/// written. `targets` is empty on entry and keeps its capacity.
struct SampleOut {
  MutableImageView pixels{};
  std::vector<Target> targets{};
  std::int32_t class_id = -1;
  Placement placement{};
};

/// Reused working memory of one thread; a Transform may keep anything in it between calls.
struct TransformScratch {
  virtual ~TransformScratch() = default;
};

/// Turns source pixels into a sample. Pure: the result depends on (recipe, sources) alone.
/// Immutable and shared by all loader threads. Derive from it to bring your own augmentation.
class Transform {
 public:
  virtual ~Transform() = default;
  virtual int width() const = 0;  ///< of every sample, pixels
  virtual int height() const = 0;
  /// Adds partners to `recipe` (its key and first source are set).
  virtual void choose(Recipe& recipe, PartnerDraw& partners) const;
  /// How large the sources are needed; the same for every sample.
  virtual DecodeRequest decode_request() const = 0;
  /// Part of source `which` that will be read, where that is known beforehand. `width` and
  /// `height` are the upright source size.
  virtual std::optional<RegionF> region(const Recipe& recipe, int which, int width,
                                        int height) const;
  virtual std::unique_ptr<TransformScratch> make_scratch() const;
  virtual void apply(const Recipe& recipe, std::span<const Source> sources,
                     TransformScratch* scratch, SampleOut& out) const = 0;
  /// Names the transform and all its settings; part of Law 1's promise and of checkpoints.
  virtual std::string describe() const = 0;
};

/// YOLOv5's augmentation settings under their own names and defaults ("hyp", scratch-low).
struct DetectionAugmentation {
  double hsv_h = 0.015, hsv_s = 0.7, hsv_v = 0.4;  ///< gain fractions
  double degrees = 0.0;                            ///< rotation +/- degrees
  double translate = 0.1;                          ///< +/- fraction
  double scale = 0.5;                              ///< gain 1 +/- scale
  double shear = 0.0;                              ///< +/- degrees
  double perspective = 0.0;                        ///< +/- fraction, 0..0.001
  double flipud = 0.0, fliplr = 0.5;               ///< probability
  double mosaic = 1.0;                             ///< probability
  double mosaic9 = 0.0;                            ///< share of mosaics made of nine
  double mixup = 0.0;                              ///< probability
  double copy_paste = 0.0;                         ///< probability, needs polygons
  std::int64_t mosaic_epochs = -1;  ///< mosaics are made in epochs before it; -1: in all
};

/// Training samples for detection: mosaic (or letterbox), random perspective, mixup, HSV, flips.
std::shared_ptr<const Transform> make_detection_transform(
    int size, const DetectionAugmentation& augmentation = {});
/// Evaluation: resized to fit, centred on grey 114; boxes follow; placement is filled.
std::shared_ptr<const Transform> make_letterbox_transform(int width, int height);

struct ClassificationAugmentation {
  double min_area = 0.08;  ///< random-resized-crop area range [min_area, 1]
  double min_aspect = 3.0 / 4.0, max_aspect = 4.0 / 3.0;
  double fliplr = 0.5, flipud = 0.0;
  double hsv_h = 0.015, hsv_s = 0.4, hsv_v = 0.4;
};
std::shared_ptr<const Transform> make_classification_transform(
    int size, const ClassificationAugmentation& augmentation = {});
/// Evaluation: shorter side to `size`, centre crop.
std::shared_ptr<const Transform> make_center_crop_transform(int size);

}  // namespace brim
