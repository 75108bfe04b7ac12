#include <algorithm>

#include "augment_settings.h"
#include "brim/dataloader/letterbox.h"

namespace brim {
namespace {

struct LetterboxScratch : TransformScratch {
  BilinearResizer resizer;
};

class LetterboxTransform final : public Transform {
 public:
  LetterboxTransform(int width, int height) : width_(width), height_(height) {
    detail::check_side(width, "width");
    detail::check_side(height, "height");
  }

  int width() const override { return width_; }
  int height() const override { return height_; }
  DecodeRequest decode_request() const override {
    return {DecodeRequest::Fit::LongestSide, std::max(width_, height_)};
  }
  std::unique_ptr<TransformScratch> make_scratch() const override {
    return std::make_unique<LetterboxScratch>();
  }
  std::string describe() const override {
    return "letterbox 1 width=" + std::to_string(width_) + " height=" + std::to_string(height_);
  }

  void apply(const Recipe&, std::span<const Source> sources, TransformScratch* scratch,
             SampleOut& out) const override {
    std::unique_ptr<LetterboxScratch> own;
    auto& work = detail::scratch_as<LetterboxScratch>(scratch, own);
    const Source& source = sources[0];
    const Size image{source.pixels.width, source.pixels.height};
    const LetterboxGeometry g = letterbox_geometry(image, {width_, height_});
    letterbox_pixels(source.pixels, g, work.resizer, out.pixels);
    place(source, g, out.placement);
    for (const Box& box : source.record.boxes) add_target(box, g, out.targets);
  }

 private:
  static void place(const Source& source, const LetterboxGeometry& g, Placement& placement) {
    const bool known = source.info.original_width > 0 && source.info.original_height > 0;
    placement.original_width = known ? source.info.original_width : source.pixels.width;
    placement.original_height = known ? source.info.original_height : source.pixels.height;
    placement.scale_x =
        static_cast<float>(g.resized.width) / static_cast<float>(placement.original_width);
    placement.scale_y =
        static_cast<float>(g.resized.height) / static_cast<float>(placement.original_height);
    placement.pad_x = static_cast<float>(g.left);
    placement.pad_y = static_cast<float>(g.top);
  }

  /// Labels lie exactly where the pixels do: whole padding, whole resized size.
  void add_target(const Box& box, const LetterboxGeometry& g, std::vector<Target>& targets) const {
    Target target =
        box_to_fractions(box_to_pixels(box.cx, box.cy, box.width, box.height, g.resized,
                                       static_cast<float>(g.left), static_cast<float>(g.top)),
                         {width_, height_});
    target.class_id = static_cast<float>(box.class_id);
    targets.push_back(target);
  }

  int width_, height_;
};

}  // namespace

std::shared_ptr<const Transform> make_letterbox_transform(int width, int height) {
  return std::make_shared<LetterboxTransform>(width, height);
}

}  // namespace brim
