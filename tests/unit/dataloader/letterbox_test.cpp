#include "brim/dataloader/letterbox.h"

#include <gtest/gtest.h>

#include <cstring>
#include <opencv2/imgproc.hpp>
#include <vector>

namespace brim {
namespace {

cv::Mat noise(int width, int height, std::uint64_t key) {
  cv::Mat image(height, width, CV_8UC3);
  Generator generator(key, Purpose::User);
  for (int i = 0; i < width * height * 3; ++i) {
    image.data[i] = static_cast<std::uint8_t>(generator.below(256));
  }
  return image;
}

ImageView view(const cv::Mat& image) {
  return {image.data, image.cols, image.rows, static_cast<std::ptrdiff_t>(image.step)};
}

MutableImageView writable(cv::Mat& image) {
  return {image.data, image.cols, image.rows, static_cast<std::ptrdiff_t>(image.step)};
}

TEST(LetterboxGeometry, PutsTheOddPixelOfPaddingRightAndBelow) {
  const LetterboxGeometry g = letterbox_geometry({201, 97}, {160, 96});
  EXPECT_EQ(g.resized.width, 160);
  EXPECT_EQ(g.resized.height, 77);
  EXPECT_EQ(g.top, 9);
  EXPECT_EQ(g.bottom, 10);
  EXPECT_DOUBLE_EQ(g.pad_y, 9.5);
  EXPECT_EQ(g.out.height, 96);
}

TEST(LetterboxGeometry, PadsToTheStrideOnly) {
  const LetterboxGeometry g =
      letterbox_geometry({201, 97}, {160, 160}, {.fill = LetterboxFill::Stride, .stride = 64});
  EXPECT_EQ(g.out.width, 160);
  EXPECT_EQ(g.out.height, 96);
}

TEST(LetterboxGeometry, KeepsSmallImagesWhereAskedTo) {
  const LetterboxGeometry g =
      letterbox_geometry({20, 30}, {64, 64}, {.scale = LetterboxScale::ReduceOnly});
  EXPECT_EQ(g.resized.width, 20);
  EXPECT_EQ(g.left, 22);
  EXPECT_EQ(g.top, 17);
}

TEST(BilinearResizer, EqualsOpenCvPixelForPixel) {
  BilinearResizer resizer;
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Generator g(seed, Purpose::Composer);
    const auto side = [&] { return 1 + static_cast<int>(g.below(90)); };
    cv::Mat from = noise(side(), side(), seed);
    cv::Size size(side(), side());
    if (seed % 10 == 0) size = {(from.cols + 1) / 2, (from.rows + 1) / 2};
    if (seed % 10 == 0) from = noise(size.width * 2, size.height * 2, seed);
    cv::Mat expected, found(size, CV_8UC3);
    cv::resize(from, expected, size, 0, 0, cv::INTER_LINEAR);
    resizer.resize(view(from), writable(found));
    ASSERT_EQ(cv::norm(expected, found, cv::NORM_INF), 0) << from.size() << " to " << size;
  }
}

TEST(LetterboxTransform, WritesEveryPixelAndPlacesBoxesOnThem) {
  const auto transform = make_letterbox_transform(96, 64);
  cv::Mat image(40, 50, CV_8UC3, cv::Scalar(10, 20, 30));
  image(cv::Rect(10, 8, 20, 16)).setTo(cv::Scalar(200, 100, 50));
  const Box box{3, 0.4f, 0.4f, 0.4f, 0.4f};
  Source source;
  source.pixels = view(image);
  source.info = {100, 80, 50, 40, 0, 0};
  source.record.boxes = {&box, 1};
  for (const int poison : {0, 255}) {
    cv::Mat out(64, 96, CV_8UC3, cv::Scalar::all(poison));
    SampleOut sample;
    sample.pixels = writable(out);
    transform->apply({}, {&source, 1}, nullptr, sample);
    EXPECT_EQ(out.at<cv::Vec3b>(0, 0), cv::Vec3b(114, 114, 114));
    EXPECT_EQ(out.at<cv::Vec3b>(63, 95), cv::Vec3b(114, 114, 114));
    EXPECT_EQ(out.at<cv::Vec3b>(0, 8), cv::Vec3b(10, 20, 30));
    EXPECT_EQ(out.at<cv::Vec3b>(63, 87), cv::Vec3b(10, 20, 30));
    ASSERT_EQ(sample.targets.size(), 1u);
    const Target& t = sample.targets[0];
    EXPECT_EQ(t.class_id, 3);
    // The rectangle covers image pixels [10, 30) x [8, 24), scaled by 1.6, moved by 8.
    EXPECT_NEAR((t.cx - t.width / 2) * 96, 10 * 1.6 + 8, 1e-3);
    EXPECT_NEAR((t.cx + t.width / 2) * 96, 30 * 1.6 + 8, 1e-3);
    EXPECT_NEAR((t.cy - t.height / 2) * 64, 8 * 1.6, 1e-3);
    EXPECT_EQ(sample.placement.original_width, 100);
    EXPECT_FLOAT_EQ(sample.placement.scale_x, 0.8f);
    EXPECT_FLOAT_EQ(sample.placement.pad_x, 8);
  }
}

TEST(LetterboxTransform, CopiesWhatAlreadyFits) {
  const auto transform = make_letterbox_transform(64, 64);
  cv::Mat image = noise(64, 48, 5), out(64, 64, CV_8UC3);
  Source source;
  source.pixels = view(image);
  SampleOut sample;
  sample.pixels = writable(out);
  transform->apply({}, {&source, 1}, transform->make_scratch().get(), sample);
  EXPECT_EQ(cv::norm(out(cv::Rect(0, 8, 64, 48)), image, cv::NORM_INF), 0);
}

TEST(KeepBox, DropsWhatIsTooSmallTooThinOrMostlyGone) {
  const BoxF before{0, 0, 100, 100};
  EXPECT_TRUE(keep_box(before, {0, 0, 50, 50}));
  EXPECT_FALSE(keep_box(before, {0, 0, 2, 90}));
  EXPECT_FALSE(keep_box(before, {0, 0, 30, 30}));
  EXPECT_TRUE(keep_box(before, {0, 0, 30, 30}, {.min_area_ratio = 0.01f}));
  EXPECT_FALSE(keep_box({0, 0, 1000, 3}, {0, 0, 1000, 3}));
}

}  // namespace
}  // namespace brim
