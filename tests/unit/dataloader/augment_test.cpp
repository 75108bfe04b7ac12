#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "brim/cache/error.h"
#include "brim/dataloader/transform.h"

namespace brim {
namespace {

struct Counting : PartnerDraw {
  std::int64_t next = 1;
  std::int64_t draw() override { return next++; }
};

struct Inputs {
  std::vector<Image> images;
  std::vector<std::vector<Box>> boxes;
  std::vector<Source> sources;
};

/// `count` noisy sources of the given size, each with two boxes.
Inputs make_inputs(int count, int width, int height, std::uint64_t key) {
  Inputs in;
  in.images.resize(static_cast<std::size_t>(count));
  in.boxes.resize(in.images.size());
  in.sources.resize(in.images.size());
  Generator g(key, Purpose::User);
  for (std::size_t i = 0; i < in.images.size(); ++i) {
    in.images[i].resize(width, height);
    for (int b = 0; b < width * height * 3; ++b) {
      in.images[i].mutable_view().data[b] = static_cast<std::uint8_t>(g.below(256));
    }
    in.boxes[i] = {{1, 0.5f, 0.5f, 0.6f, 0.6f}, {2, 0.2f, 0.3f, 0.3f, 0.4f}};
    in.sources[i].pixels = in.images[i].view();
    in.sources[i].record.boxes = in.boxes[i];
    in.sources[i].record.class_id = static_cast<std::int32_t>(i) + 5;
  }
  return in;
}

struct Result {
  std::vector<std::uint8_t> pixels;
  std::vector<Target> targets;
  bool operator==(const Result& other) const {
    return pixels == other.pixels && targets.size() == other.targets.size() &&
           std::equal(targets.begin(), targets.end(), other.targets.begin(),
                      [](const Target& a, const Target& b) {
                        return std::memcmp(&a, &b, sizeof(Target)) == 0;
                      });
  }
};

Result run(const Transform& transform, std::uint64_t key, const Inputs& in,
           TransformScratch* scratch, std::uint8_t poison) {
  Counting partners;
  Recipe recipe{.key = key};
  transform.choose(recipe, partners);
  Result result;
  const int width = transform.width(), height = transform.height();
  result.pixels.assign(static_cast<std::size_t>(width * height * 3), poison);
  SampleOut out;
  out.pixels = {result.pixels.data(), width, height, std::ptrdiff_t{3} * width};
  const std::span<const Source> all(in.sources);
  transform.apply(recipe, all.first(static_cast<std::size_t>(recipe.source_count)), scratch, out);
  result.targets = out.targets;
  return result;
}

std::vector<std::shared_ptr<const Transform>> all_transforms() {
  return {make_detection_transform(72, {.mixup = 0.5}),
          make_detection_transform(33, {.degrees = 180,
                                        .shear = 20,
                                        .perspective = 0.002,
                                        .flipud = 0.5,
                                        .mosaic = 0.7,
                                        .mosaic9 = 0.5,
                                        .mixup = 0.5}),
          make_letterbox_transform(50, 70), make_classification_transform(40, {.flipud = 0.5}),
          make_center_crop_transform(31)};
}

TEST(Augmentation, WritesEveryPixelAndDependsOnTheRecipeAlone) {
  // 1x1, single rows and columns, and ordinary sizes.
  const std::pair<int, int> sizes[] = {{1, 1}, {1, 40}, {40, 1}, {2, 2}, {3, 70}, {64, 48}};
  for (const auto& transform : all_transforms()) {
    const auto reused = transform->make_scratch();
    for (const auto& [width, height] : sizes) {
      for (std::uint64_t key = 0; key < 12; ++key) {
        SCOPED_TRACE(testing::Message() << transform->describe() << " of " << width << "x" << height
                                        << " key " << key);
        const Inputs in = make_inputs(kMaxSources, width, height, key);
        const Result first = run(*transform, key, in, reused.get(), 0);
        ASSERT_TRUE(first == run(*transform, key, in, nullptr, 255)) << "a pixel was not written";
        ASSERT_TRUE(first == run(*transform, key, in, reused.get(), 77));
        for (const Target& t : first.targets) {
          ASSERT_TRUE(std::isfinite(t.cx + t.cy + t.width + t.height));
          ASSERT_GE(t.cx - t.width / 2, -1e-6f);
          ASSERT_LE(t.cy + t.height / 2, 1 + 1e-6f);
        }
      }
    }
  }
}

TEST(Augmentation, ManagesWithoutBoxes) {
  Inputs in = make_inputs(kMaxSources, 30, 20, 1);
  for (Source& source : in.sources) source.record.boxes = {};
  for (const auto& transform : all_transforms()) {
    EXPECT_TRUE(run(*transform, 3, in, nullptr, 0).targets.empty());
  }
}

TEST(DetectionTransform, ChoosesAsManySourcesAsItsSettingsSay) {
  const auto counts = [](const DetectionAugmentation& augmentation) {
    const auto transform = make_detection_transform(64, augmentation);
    std::set<int> found;
    for (std::uint64_t key = 0; key < 200; ++key) {
      Counting partners;
      Recipe recipe{.key = mix64(key)};
      transform->choose(recipe, partners);
      EXPECT_EQ(recipe.source_count, partners.next);
      found.insert(recipe.source_count);
    }
    return found;
  };
  EXPECT_EQ(counts({}), std::set<int>({4}));
  EXPECT_EQ(counts({.mosaic = 0}), std::set<int>({1}));
  EXPECT_EQ(counts({.mosaic = 0, .mixup = 1}), std::set<int>({1}));
  EXPECT_EQ(counts({.mosaic9 = 1, .mixup = 1}), std::set<int>({18}));
  EXPECT_EQ(counts({.mosaic = 0.5, .mosaic9 = 0.5, .mixup = 0.5}),
            std::set<int>({1, 4, 8, 9, 13, 18}));
}

TEST(DetectionTransform, ShowsWholeImagesFromTheStatedEpochOn) {
  const auto transform = make_detection_transform(64, {.mosaic_epochs = 7});
  for (const std::int64_t epoch : {0, 6, 7, 8}) {
    Counting partners;
    Recipe recipe{.key = 5, .epoch = epoch};
    transform->choose(recipe, partners);
    EXPECT_EQ(recipe.source_count, epoch < 7 ? 4 : 1) << epoch;
  }
  EXPECT_NE(transform->describe(), make_detection_transform(64)->describe());
}

TEST(DetectionTransform, RefusesSettingsThatCannotBe) {
  EXPECT_THROW(make_detection_transform(0), Error);
  try {
    make_detection_transform(64, {.scale = 1.5});
    FAIL() << "scale 1.5 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.where().key, "scale");
    EXPECT_NE(error.message().find("found 1.5"), std::string::npos) << error.message();
  }
  EXPECT_THROW(make_detection_transform(64, {.mosaic = -0.1}), Error);
  EXPECT_THROW(make_classification_transform(64, {.min_area = 0}), Error);
}

TEST(DetectionTransform, NamesEverySetting) {
  const std::string text = make_detection_transform(64, {.mixup = 0.25})->describe();
  EXPECT_NE(text.find("mixup=0.25"), std::string::npos) << text;
  EXPECT_NE(text.find("copy_paste=0"), std::string::npos) << text;
}

TEST(CopyPaste, AddsTheMirroredObjectWhereItsLabelSays) {
  // One red object with an outline left of the centre of a blue image; all geometry switched off.
  constexpr int kSize = 64;
  const auto transform = make_detection_transform(kSize, {.hsv_h = 0,
                                                          .hsv_s = 0,
                                                          .hsv_v = 0,
                                                          .translate = 0,
                                                          .scale = 0,
                                                          .fliplr = 0,
                                                          .copy_paste = 1});
  int pasted = 0;
  for (std::uint64_t key = 0; key < 60; ++key) {
    SCOPED_TRACE(testing::Message() << "key " << key);
    Inputs in = make_inputs(4, kSize, kSize, key);
    const std::vector<float> outline{0.25f, 0.25f, 0.5f, 0.25f, 0.5f, 0.5f, 0.25f, 0.5f};
    const Polygon polygon{0, outline};
    for (std::size_t i = 0; i < 4; ++i) {
      const MutableImageView view = in.images[i].mutable_view();
      for (int p = 0; p < kSize * kSize; ++p) {
        const int x = p % kSize, y = p / kSize;
        const bool inside = i == 0 && x >= 16 && x < 32 && y >= 16 && y < 32;
        view.data[3 * p] = inside ? 255 : 0;
        view.data[3 * p + 1] = 0;
        view.data[3 * p + 2] = inside ? 0 : 255;
      }
      in.boxes[i] = {};
    }
    in.boxes[0] = {{4, 0.375f, 0.375f, 0.25f, 0.25f}};
    in.sources[0].record.boxes = in.boxes[0];
    in.sources[0].record.polygons = {&polygon, 1};
    for (std::size_t i = 1; i < 4; ++i) in.sources[i].record.boxes = {};
    const Result result = run(*transform, key, in, nullptr, 0);
    int red = 0;
    for (std::size_t p = 0; p < result.pixels.size(); p += 3) red += result.pixels[p] > 180 ? 1 : 0;
    double labelled = 0;
    for (const Target& t : result.targets) labelled += t.width * t.height * kSize * kSize;
    EXPECT_NEAR(red, labelled, 64) << result.targets.size() << " targets";
    pasted += result.targets.size() == 2 ? 1 : 0;
  }
  EXPECT_GT(pasted, 5);
}

TEST(ClassificationTransform, GivesTheSameFromTheRegionAloneAsFromTheWhole) {
  const auto transform = make_classification_transform(24);
  const Inputs in = make_inputs(1, 97, 61, 4);
  for (std::uint64_t key = 0; key < 100; ++key) {
    const Recipe recipe{.key = key};
    const auto region = transform->region(recipe, 0, 97, 61);
    ASSERT_TRUE(region.has_value());
    Inputs whole = make_inputs(1, 97, 61, 4), part = make_inputs(1, 97, 61, 4);
    whole.sources[0].info = {97, 61, 97, 61, 0, 0};
    const int x = static_cast<int>(std::lround(region->x * 97));
    const int y = static_cast<int>(std::lround(region->y * 61));
    const ImageView all = part.images[0].view();
    part.sources[0].pixels = {all.row(y) + 3 * x, static_cast<int>(std::lround(region->width * 97)),
                              static_cast<int>(std::lround(region->height * 61)), all.stride};
    part.sources[0].info = {97, 61, 97, 61, x, y};
    ASSERT_TRUE(run(*transform, key, whole, nullptr, 0) == run(*transform, key, part, nullptr, 0))
        << "key " << key;
  }
}

TEST(ClassificationTransform, DrawsAreaAndAspectWithinTheirRanges) {
  const auto transform = make_classification_transform(24, {.min_area = 0.2});
  double smallest = 1, largest = 0;
  for (std::uint64_t key = 0; key < 500; ++key) {
    const RegionF r = *transform->region({.key = key}, 0, 800, 600);
    const double area = r.width * r.height, aspect = r.width * 800 / (r.height * 600);
    EXPECT_GT(area, 0.195);
    EXPECT_GT(aspect, 0.74);
    EXPECT_LT(aspect, 1.35);
    EXPECT_LE(r.x + r.width, 1 + 1e-12);
    smallest = std::min(smallest, area);
    largest = std::max(largest, area);
  }
  EXPECT_LT(smallest, 0.25);
  EXPECT_GT(largest, 0.9);
}

TEST(ClassificationTransform, ReducesWithoutAliasing) {
  // A checkerboard of single pixels, brought down five times, is grey.
  const auto transform = make_center_crop_transform(20);
  Inputs in = make_inputs(1, 100, 100, 1);
  for (int i = 0; i < 100 * 100 * 3; ++i) {
    const int pixel = i / 3;
    in.images[0].mutable_view().data[i] = (pixel % 100 + pixel / 100) % 2 == 0 ? 0 : 255;
  }
  const Result result = run(*transform, 1, in, nullptr, 0);
  for (const std::uint8_t value : result.pixels) EXPECT_NEAR(value, 127.5, 3);
}

TEST(CenterCrop, ShowsTheMiddleSquare) {
  const auto transform = make_center_crop_transform(20);
  Inputs in = make_inputs(1, 60, 20, 1);
  const Result result = run(*transform, 1, in, nullptr, 0);
  const ImageView view = in.images[0].view();
  for (int y = 0; y < 20; ++y) {
    ASSERT_EQ(std::memcmp(result.pixels.data() + y * 60, view.row(y) + 3 * 20, 60), 0);
  }
}

}  // namespace
}  // namespace brim
