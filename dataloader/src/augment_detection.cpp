#include <algorithm>
#include <cmath>
#include <cstring>

#include "augment_composition.h"
#include "augment_settings.h"
#include "brim/cache/error.h"
#include "colour.h"

namespace brim {
namespace {

using namespace detail;

struct DetectionScratch : TransformScratch {
  RowPainter painter;
  Composition first, second;
  PixelRow row, other;
};

/// What a recipe's key decides about the number of sources.
struct Choice {
  Layout first = Layout::Single;
  bool mixed = false;
  Layout second = Layout::Mosaic4;
};

/// Key of the picture that is mixed in.
std::uint64_t second_key(std::uint64_t key) {
  return mix64(key, static_cast<std::uint64_t>(Purpose::Mixup));
}

/// Beta(32, 32) as the ratio of two gamma variates, each a sum of 32 exponentials.
double draw_mix_share(Generator& generator) {
  const auto gamma = [&] {
    double sum = 0;
    for (int i = 0; i < 32; ++i) sum -= std::log(1.0 - generator.uniform());
    return sum;
  };
  const double a = gamma(), b = gamma();
  return a / (a + b);
}

class DetectionTransform final : public Transform {
 public:
  DetectionTransform(int size, const DetectionAugmentation& augmentation)
      : size_(size), augmentation_(augmentation) {
    check_side(size, "size");
    check(augmentation);
  }

  int width() const override { return size_; }
  int height() const override { return size_; }
  DecodeRequest decode_request() const override { return {DecodeRequest::Fit::LongestSide, size_}; }
  std::unique_ptr<TransformScratch> make_scratch() const override {
    return std::make_unique<DetectionScratch>();
  }
  std::string describe() const override {
    return "detection 3 size=" + std::to_string(size_) + detail::describe(augmentation_);
  }

  void choose(Recipe& recipe, PartnerDraw& partners) const override {
    const int count = source_count(chosen(recipe));
    for (int i = 1; i < count; ++i) {
      recipe.sources[static_cast<std::size_t>(i)] = partners.draw();
    }
    recipe.source_count = count;
  }

  void apply(const Recipe& recipe, std::span<const Source> sources, TransformScratch* scratch,
             SampleOut& out) const override {
    const Choice choice = chosen(recipe);
    if (sources.size() < static_cast<std::size_t>(source_count(choice))) {
      throw Error("a sample needs " + std::to_string(source_count(choice)) +
                  " source images, found " + std::to_string(sources.size()));
    }
    std::unique_ptr<DetectionScratch> own;
    auto& work = scratch_as<DetectionScratch>(scratch, own);
    Generator flip(recipe.key, Purpose::Flip);
    const bool up_down = flip.chance(augmentation_.flipud);
    const Flips flips{up_down, flip.chance(augmentation_.fliplr)};

    work.first.plan(recipe.key, choice.first, sources, size_, augmentation_, flips);
    work.first.add_targets(out.targets);
    if (choice.mixed) {
      work.second.plan(second_key(recipe.key), choice.second,
                       sources.subspan(static_cast<std::size_t>(choice.first)), size_,
                       augmentation_, flips);
      work.second.add_targets(out.targets);
    }
    paint(recipe.key, choice, work, out.pixels);
    if (choice.first == Layout::Single) {
      out.placement.original_width = sources[0].info.original_width;
      out.placement.original_height = sources[0].info.original_height;
    }
  }

 private:
  /// Every number is drawn whatever the others say, so changing one probability keeps the rest.
  Choice chosen(const Recipe& recipe) const {
    const std::int64_t last = augmentation_.mosaic_epochs;
    if (last >= 0 && recipe.epoch >= last) return {};
    Generator generator(mix64(recipe.key), Purpose::Mosaic);
    const bool mosaic = generator.chance(augmentation_.mosaic);
    const bool nine = generator.chance(augmentation_.mosaic9);
    const bool mixed = generator.chance(augmentation_.mixup);
    const bool second_nine = generator.chance(augmentation_.mosaic9);
    const auto layout = [](bool of_nine) { return of_nine ? Layout::Mosaic9 : Layout::Mosaic4; };
    if (!mosaic) return {};
    return {layout(nine), mixed, layout(second_nine)};
  }

  static int source_count(const Choice& choice) {
    return static_cast<int>(choice.first) + (choice.mixed ? static_cast<int>(choice.second) : 0);
  }

  void paint(std::uint64_t key, const Choice& choice, DetectionScratch& work,
             const MutableImageView& pixels) const {
    Generator mix(key, Purpose::Mixup), colour(key, Purpose::Colour);
    const int share = choice.mixed ? static_cast<int>(std::lround(draw_mix_share(mix) * 256)) : 256;
    const ColourGains gains =
        draw_gains(colour, augmentation_.hsv_h, augmentation_.hsv_s, augmentation_.hsv_v);
    const std::uint8_t grey = coloured_grey(gains, kPadGrey);
    const Isa isa = work.painter.isa();
    for (int y = 0; y < size_; ++y) {
      Span seen = work.first.paint_row(work.painter, y, work.row);
      if (choice.mixed) {
        seen = seen.hull(work.second.paint_row(work.painter, y, work.other));
        work.painter.kernels().blend(work.row, work.other, share, seen.begin, seen.end);
      }
      if (seen.empty()) seen = {};
      std::uint8_t* const out = pixels.row(y);
      std::memset(out, grey, std::size_t{3} * static_cast<std::size_t>(seen.begin));
      write_coloured(gains, work.row, seen.begin, seen.end, out, isa);
      std::memset(out + std::ptrdiff_t{3} * seen.end, grey,
                  std::size_t{3} * static_cast<std::size_t>(size_ - seen.end));
    }
  }

  int size_;
  DetectionAugmentation augmentation_;
};

}  // namespace

std::shared_ptr<const Transform> make_detection_transform(
    int size, const DetectionAugmentation& augmentation) {
  return std::make_shared<DetectionTransform>(size, augmentation);
}

}  // namespace brim
