#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "brim/dataloader/image.h"
#include "brim/dataloader/transform.h"

namespace brim {
namespace {

constexpr int kSize = 160;

/// A black image with a red rectangle, and the label of that rectangle.
struct Marked {
  Image image;
  Box box;
  std::vector<float> outline;
  Polygon polygon;
};

void make_marked(Generator& g, bool mark, Marked& out) {
  const int other = 60 + static_cast<int>(g.below(kSize - 59));
  const bool tall = g.chance(0.5);
  const int width = tall ? other : kSize, height = tall ? kSize : other;
  out.image.resize(width, height);
  const MutableImageView view = out.image.mutable_view();
  std::fill_n(view.data, width * height * 3, std::uint8_t{0});
  const int w = 12 + static_cast<int>(g.below(static_cast<std::uint64_t>(width / 2)));
  const int h = 12 + static_cast<int>(g.below(static_cast<std::uint64_t>(height / 2)));
  const int x = static_cast<int>(g.below(static_cast<std::uint64_t>(width - w)));
  const int y = static_cast<int>(g.below(static_cast<std::uint64_t>(height - h)));
  if (!mark) return;
  for (int row = y; row < y + h; ++row) {
    for (int column = x; column < x + w; ++column) view.row(row)[3 * column] = 255;
  }
  const float fw = static_cast<float>(width), fh = static_cast<float>(height);
  out.box = {7, (x + w * 0.5f) / fw, (y + h * 0.5f) / fh, w / fw, h / fh};
  out.outline = {x / fw,       y / fh,       (x + w) / fw, y / fh,
                 (x + w) / fw, (y + h) / fh, x / fw,       (y + h) / fh};
  out.polygon = {0, out.outline};
}

struct Found {
  int count = 0;
  int x1 = kSize, y1 = kSize, x2 = 0, y2 = 0;
};

/// Bounding box of the pixels that hold some red: other pixels are black or grey.
Found find_red(const ImageView& view) {
  Found f;
  for (int y = 0; y < view.height; ++y) {
    for (int x = 0; x < view.width; ++x) {
      if (view.row(y)[3 * x] < view.row(y)[3 * x + 1] + 80) continue;
      ++f.count;
      f = {f.count, std::min(f.x1, x), std::min(f.y1, y), std::max(f.x2, x + 1),
           std::max(f.y2, y + 1)};
    }
  }
  return f;
}

struct NoPartners : PartnerDraw {
  std::int64_t next = 1;
  std::int64_t draw() override { return next++; }
};

struct Tally {
  int compared = 0, dropped = 0;
};

/// One sample with one red rectangle among its sources: its pixels and its label must agree.
void check_case(const Transform& transform, std::uint64_t seed, bool outlined, bool turned,
                Tally& tally) {
  Generator g(seed, Purpose::Composer);
  NoPartners partners;
  Recipe recipe{.key = mix64(seed)};
  transform.choose(recipe, partners);
  std::vector<Marked> marked(static_cast<std::size_t>(recipe.source_count));
  std::vector<Source> sources(marked.size());
  const std::size_t which = g.below(marked.size());
  for (std::size_t i = 0; i < marked.size(); ++i) {
    make_marked(g, i == which, marked[i]);
    sources[i].pixels = marked[i].image.view();
    if (i != which) continue;
    sources[i].record.boxes = {&marked[i].box, 1};
    if (outlined) sources[i].record.polygons = {&marked[i].polygon, 1};
  }
  Image picture;
  picture.resize(kSize, kSize);
  SampleOut out;
  out.pixels = picture.mutable_view();
  transform.apply(recipe, sources, nullptr, out);
  const Found found = find_red(picture.view());
  ASSERT_LE(out.targets.size(), 1u);
  if (out.targets.empty()) {
    EXPECT_LT(found.count, 900) << "a large rectangle lost its label";
    ++tally.dropped;
    return;
  }
  ASSERT_GT(found.count, 0);
  const Target& t = out.targets[0];
  EXPECT_EQ(t.class_id, 7);
  const double x1 = (t.cx - t.width / 2) * kSize, x2 = (t.cx + t.width / 2) * kSize;
  const double y1 = (t.cy - t.height / 2) * kSize, y2 = (t.cy + t.height / 2) * kSize;
  // A turned box without outline keeps the bounds of its corners, of which some lie outside.
  const bool cut = x1 < 0.5 || y1 < 0.5 || x2 > kSize - 0.5 || y2 > kSize - 0.5;
  if (turned && cut && !outlined) return;
  // Corners of turned boxes, and more so of cut ones, are tips thinner than a pixel.
  const double tolerance = turned ? (cut ? 3.0 : 2.0) : 1.5;
  EXPECT_NEAR(x1, found.x1, tolerance);
  EXPECT_NEAR(y1, found.y1, tolerance);
  EXPECT_NEAR(x2, found.x2, tolerance);
  EXPECT_NEAR(y2, found.y2, tolerance);
  ++tally.compared;
}

void check_many(DetectionAugmentation a, bool outlined) {
  a.hsv_h = a.hsv_s = a.hsv_v = 0;
  const bool turned = a.degrees > 0 || a.shear > 0 || a.perspective > 0;
  const auto transform = make_detection_transform(kSize, a);
  Tally tally;
  for (std::uint64_t seed = 0; seed < 250; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    check_case(*transform, seed, outlined, turned, tally);
  }
  EXPECT_GT(tally.compared, 40) << tally.dropped << " dropped";
}

TEST(BoxesFollowPixels, InMosaicsOfFour) {
  check_many({.fliplr = 0.5}, false);
}

TEST(BoxesFollowPixels, InMosaicsOfNine) {
  check_many({.mosaic9 = 1.0}, false);
}

TEST(BoxesFollowPixels, WithoutMosaic) {
  check_many({.mosaic = 0.0}, false);
}

TEST(BoxesFollowPixels, ThroughFlips) {
  check_many({.flipud = 0.5, .fliplr = 0.5}, false);
}

TEST(BoxesFollowPixels, ThroughRotationAndShear) {
  check_many({.degrees = 30, .shear = 8, .flipud = 0.5}, false);
}

TEST(BoxesFollowPixels, ThroughPerspective) {
  check_many({.degrees = 10, .perspective = 0.001}, false);
}

TEST(BoxesFollowPixels, AsOutlinesTurnedAndCut) {
  check_many({.degrees = 30, .shear = 8, .perspective = 0.0005, .mosaic9 = 0.3}, true);
}

TEST(BoxesFollowPixels, AsOutlinesUnturned) {
  check_many({.flipud = 0.5, .mosaic = 0.7}, true);
}

}  // namespace
}  // namespace brim
