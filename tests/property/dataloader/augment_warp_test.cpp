#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "dataloader/src/augment_composition.h"
#include "dataloader/src/colour.h"

namespace brim::detail {
namespace {

constexpr int kSize = 96;

cv::Mat smooth(int width, int height, std::uint64_t key) {
  Generator g(key, Purpose::User);
  const double fx = g.uniform(0.02, 0.12), fy = g.uniform(0.02, 0.12), phase = g.uniform(0, 6);
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.at<cv::Vec3b>(y, x) = {static_cast<std::uint8_t>(128 + 100 * std::sin(fx * x + phase)),
                                   static_cast<std::uint8_t>(128 + 100 * std::cos(fy * y + phase)),
                                   static_cast<std::uint8_t>(128 + 60 * std::sin(fx * x - fy * y))};
    }
  }
  return image;
}

struct Sources {
  std::vector<cv::Mat> images;
  std::vector<Source> sources;
  void add(cv::Mat image) {
    images.push_back(std::move(image));
    const cv::Mat& m = images.back();
    Source source;
    source.pixels = {m.data, m.cols, m.rows, static_cast<std::ptrdiff_t>(m.step)};
    sources.push_back(source);
  }
};

/// The published two steps: a canvas with every image on it, then OpenCV's warp of the canvas.
cv::Mat two_steps(std::uint64_t key, Layout layout, const Sources& s,
                  const DetectionAugmentation& augmentation, Flips flips) {
  Generator mosaic(key, Purpose::Mosaic), perspective(key, Purpose::Perspective);
  const Canvas canvas = layout == Layout::Mosaic4   ? mosaic4(mosaic, s.sources, kSize)
                        : layout == Layout::Mosaic9 ? mosaic9(mosaic, s.sources, kSize)
                                                    : letterbox_canvas(s.sources[0], kSize);
  cv::Mat picture(canvas.size.height, canvas.size.width, CV_8UC3, cv::Scalar::all(kPadGrey));
  for (int i = 0; i < canvas.count; ++i) {
    const Tile& tile = canvas.tiles[static_cast<std::size_t>(i)];
    cv::Mat shown;
    cv::resize(s.images[static_cast<std::size_t>(tile.source)], shown,
               cv::Size(static_cast<int>(tile.width), static_cast<int>(tile.height)));
    const cv::Rect on(
        cv::Point(static_cast<int>(tile.visible.x1), static_cast<int>(tile.visible.y1)),
        cv::Point(static_cast<int>(tile.visible.x2), static_cast<int>(tile.visible.y2)));
    shown(on - cv::Point(static_cast<int>(tile.x), static_cast<int>(tile.y))).copyTo(picture(on));
  }
  Matrix3 map = draw_perspective(perspective, augmentation, canvas.size, kSize).map;
  if (flips.up_down) map = Matrix3::mirror_y(kSize) * map;
  if (flips.left_right) map = Matrix3::mirror_x(kSize) * map;
  map = Matrix3::translation(-0.5, -0.5) * map * Matrix3::translation(0.5, 0.5);
  cv::Mat out;
  cv::warpPerspective(picture, out, cv::Mat(3, 3, CV_64F, map.m.data()), {kSize, kSize},
                      cv::INTER_LINEAR, cv::BORDER_CONSTANT, cv::Scalar::all(kPadGrey));
  return out;
}

cv::Mat composed(std::uint64_t key, Layout layout, const Sources& s,
                 const DetectionAugmentation& augmentation, Flips flips) {
  Composition composition;
  RowPainter painter;
  composition.plan(key, layout, s.sources, kSize, augmentation, flips);
  PixelRow row;
  cv::Mat out(kSize, kSize, CV_8UC3);
  for (int y = 0; y < kSize; ++y) {
    composition.paint_row(painter, y, row);
    write_coloured({}, row, 0, kSize, out.ptr(y), painter.isa());
  }
  return out;
}

TEST(ComposedWarp, EqualsCanvasThenWarp) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Generator g(seed, Purpose::Composer);
    const Layout layout = seed % 3 == 0   ? Layout::Mosaic4
                          : seed % 3 == 1 ? Layout::Mosaic9
                                          : Layout::Single;
    const DetectionAugmentation augmentation{.degrees = seed % 2 == 0 ? 0.0 : 20.0,
                                             .translate = 0.2,
                                             .scale = 0.6,
                                             .shear = seed % 4 == 0 ? 8.0 : 0.0,
                                             .perspective = seed % 5 == 0 ? 0.001 : 0.0};
    Sources s;
    for (int i = 0; i < static_cast<int>(layout); ++i) {
      // Longest side kSize as the decoder gives it; now and then a small one to be enlarged.
      const int other = 20 + static_cast<int>(g.below(kSize - 19));
      const bool tall = g.chance(0.5);
      int width = tall ? other : kSize, height = tall ? kSize : other;
      if (g.chance(0.2)) width = std::max(2, width / 2), height = std::max(2, height / 2);
      s.add(smooth(width, height, seed * 10 + static_cast<std::uint64_t>(i)));
    }
    const Flips flips{g.chance(0.5), g.chance(0.5)};
    const cv::Mat expected = two_steps(seed, layout, s, augmentation, flips);
    const cv::Mat found = composed(seed, layout, s, augmentation, flips);
    cv::Mat difference;
    cv::absdiff(expected, found, difference);
    difference = difference.reshape(1);
    // Where images meet, the two steps mix them over one pixel and the composed warp cuts.
    const double beyond =
        cv::countNonZero(difference > 6) / static_cast<double>(difference.total());
    EXPECT_LT(beyond, layout == Layout::Mosaic9 ? 0.06 : 0.03);
    cv::Mat close;
    difference.copyTo(close, difference <= 6);
    EXPECT_LT(cv::mean(close)[0], 0.6);
  }
}

TEST(ComposedWarp, ShrinksSmallObjectsAsCleanlyAsTheTwoSteps) {
  // Discs of 20 pixels in pictures of 1280; the truth has every output pixel averaged over 8x8.
  constexpr int kFull = 1280, kTraining = 640;
  for (const double gain : {0.25, 0.4, 0.5, 0.75, 0.9}) {
    SCOPED_TRACE(testing::Message() << "gain " << gain);
    Generator g(static_cast<std::uint64_t>(gain * 100), Purpose::User);
    cv::Mat picture(kFull, kFull, CV_8UC3, cv::Scalar(200, 190, 210));
    for (int i = 0; i < 800; ++i) {
      const cv::Point centre(static_cast<int>(g.below(kFull)), static_cast<int>(g.below(kFull)));
      cv::circle(picture, centre, 10, cv::Scalar(g.uniform(0, 255), g.uniform(0, 255), 90),
                 cv::FILLED, cv::LINE_AA);
    }
    cv::Mat training;
    cv::resize(picture, training, {kTraining, kTraining}, 0, 0, cv::INTER_AREA);
    const double off = 0.37;
    const cv::Matx23d map(gain, 0, off, 0, gain, off);
    const int size = static_cast<int>(kTraining * gain) - 2;
    cv::Mat fine, truth;
    const double zoom = 8 * gain * kTraining / kFull;
    const double shift = 8 * (off + 0.5 - 0.5 * gain) + 0.5 * zoom - 0.5;
    cv::warpAffine(picture, fine, cv::Matx23d(zoom, 0, shift, 0, zoom, shift), {8 * size, 8 * size},
                   cv::INTER_LINEAR, cv::BORDER_REPLICATE);
    cv::resize(fine, truth, {size, size}, 0, 0, cv::INTER_AREA);

    const Tile tile{
        .width = kTraining, .height = kTraining, .visible = {0, 0, kTraining, kTraining}};
    const ImageView pixels{training.data, kTraining, kTraining,
                           static_cast<std::ptrdiff_t>(training.step)};
    // Canvas to sample: continuous coordinates, so half a pixel each way.
    const Matrix3 to_canvas =
        inverse(Matrix3::translation(0.5, 0.5) * Matrix3{{gain, 0, off, 0, gain, off, 0, 0, 1}} *
                Matrix3::translation(-0.5, -0.5));
    WarpTile warp;
    make_warp_tile(tile, pixels, to_canvas, size, warp);
    RowPainter painter;
    PixelRow row;
    row.resize(size);
    cv::Mat found(size, size, CV_8UC3);
    for (int y = 0; y < size; ++y) {
      painter.paint(warp, y, {0, size}, row);
      write_coloured({}, row, 0, size, found.ptr(y), painter.isa());
    }
    const cv::Rect within(2, 2, size - 4, size - 4);  // the edges fade into grey
    const double ours = cv::PSNR(truth(within), found(within));
    cv::Mat two_steps_of_it;
    cv::warpAffine(training, two_steps_of_it, map, {size, size}, cv::INTER_LINEAR,
                   cv::BORDER_REPLICATE);
    EXPECT_GT(ours, cv::PSNR(truth(within), two_steps_of_it(within)) - 0.1);
  }
}

TEST(Mosaics, NeverLayOneImageOverAnother) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Generator g(seed, Purpose::Composer);
    Sources s;
    for (int i = 0; i < 9; ++i) {
      const int other = 1 + static_cast<int>(g.below(kSize));
      s.add(g.chance(0.5) ? cv::Mat(kSize, other, CV_8UC3) : cv::Mat(other, kSize, CV_8UC3));
    }
    const Canvas canvas =
        seed % 2 == 0 ? mosaic9(g, s.sources, kSize) : mosaic4(g, s.sources, kSize);
    for (std::size_t i = 0; i < static_cast<std::size_t>(canvas.count); ++i) {
      for (std::size_t k = 0; k < i; ++k) {
        EXPECT_TRUE(intersect(canvas.tiles[i].visible, canvas.tiles[k].visible).empty())
            << "seed " << seed << ": tiles " << k << " and " << i;
      }
    }
  }
}

TEST(ComposedWarp, FadesIntoGreyAsTheTwoStepsDo) {
  // One image, no seams: every pixel must agree, those at the image's edge too.
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Sources s;
    s.add(cv::Mat(60, kSize, CV_8UC3, cv::Scalar(250, 10, 130)));
    const DetectionAugmentation augmentation{.degrees = 30, .scale = 0.4, .shear = 5};
    const cv::Mat expected = two_steps(seed, Layout::Single, s, augmentation, {});
    const cv::Mat found = composed(seed, Layout::Single, s, augmentation, {});
    EXPECT_LE(cv::norm(expected, found, cv::NORM_INF), 8);  // OpenCV's 1/32 pixel steps: 136 / 32
  }
}

}  // namespace
}  // namespace brim::detail
