#include "dataloader/src/colour.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <vector>

namespace brim::detail {
namespace {

/// The published method: 8-bit HSV, one table per channel, back.
cv::Mat by_tables(const cv::Mat& rgb, const ColourGains& gains) {
  cv::Mat hsv, out, tables(1, 256, CV_8UC3);
  cv::cvtColor(rgb, hsv, cv::COLOR_RGB2HSV);
  for (int i = 0; i < 256; ++i) {
    tables.at<cv::Vec3b>(0, i) = {static_cast<std::uint8_t>(std::fmod(i * gains.hue, 180.0f)),
                                  static_cast<std::uint8_t>(std::min(i * gains.saturation, 255.0f)),
                                  static_cast<std::uint8_t>(std::min(i * gains.value, 255.0f))};
  }
  cv::LUT(hsv, tables, hsv);
  cv::cvtColor(hsv, out, cv::COLOR_HSV2RGB);
  return out;
}

TEST(Colour, StaysCloseToThePublishedTables) {
  double worst_mean = 0;
  int worst = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Generator g(seed, Purpose::Colour);
    const ColourGains gains = draw_gains(g, 0.015, 0.7, 0.4);
    cv::Mat rgb(32, 64, CV_8UC3);
    std::vector<Pixel> row;
    for (int i = 0; i < 32 * 64; ++i) {
      const Pixel pixel = static_cast<Pixel>(g.below(1 << 24));
      for (int c = 0; c < 3; ++c) rgb.data[3 * i + c] = static_cast<std::uint8_t>(pixel >> (8 * c));
      row.push_back(pixel);
    }
    apply_colour(gains, row.data(), static_cast<int>(row.size()), best_isa());
    const cv::Mat expected = by_tables(rgb, gains);
    double sum = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      for (std::size_t c = 0; c < 3; ++c) {
        const int difference =
            std::abs(static_cast<int>((row[i] >> (8 * c)) & 255) - expected.data[3 * i + c]);
        sum += difference;
        worst = std::max(worst, difference);
      }
    }
    worst_mean = std::max(worst_mean, sum / static_cast<double>(row.size() * 3));
  }
  // The tables round hue to 2 degrees and cut value and saturation down to whole numbers.
  EXPECT_LT(worst_mean, 2.5) << "worst single value differs by " << worst;
  EXPECT_LE(worst, 24);
}

TEST(Colour, LeavesGreyGreyAndScalesIt) {
  std::vector<Pixel> row(9, make_pixel(100, 100, 100));
  apply_colour({1.3f, 1.7f, 1.2f}, row.data(), 9, best_isa());
  for (const Pixel pixel : row) EXPECT_EQ(pixel, make_pixel(120, 120, 120));
}

TEST(Colour, OneGainOfOneEachChangesNothing) {
  std::vector<Pixel> row;
  Generator g(1, Purpose::User);
  for (int i = 0; i < 500; ++i) row.push_back(static_cast<Pixel>(g.below(1 << 24)));
  std::vector<Pixel> same = row;
  apply_colour({}, same.data(), 500, best_isa());
  EXPECT_EQ(row, same);
  apply_colour({1.0f, 1.0f, 1.0000001f}, same.data(), 500, best_isa());  // through the arithmetic
  EXPECT_EQ(row, same);
}

}  // namespace
}  // namespace brim::detail
