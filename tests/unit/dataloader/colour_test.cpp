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

std::vector<std::uint8_t> coloured(const ColourGains& gains, const PixelRow& row) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(3 * row.width()));
  write_coloured(gains, row, 0, row.width(), out.data(), best_isa());
  return out;
}

TEST(Colour, StaysCloseToThePublishedTables) {
  double worst_mean = 0;
  int worst = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Generator g(seed, Purpose::Colour);
    const ColourGains gains = draw_gains(g, 0.015, 0.7, 0.4);
    cv::Mat rgb(32, 64, CV_8UC3);
    PixelRow row;
    row.resize(32 * 64);
    for (int i = 0; i < 32 * 64; ++i) {
      for (int c = 0; c < 3; ++c) {
        const auto value = static_cast<std::uint8_t>(g.below(256));
        rgb.data[3 * i + c] = row.plane(c)[i] = value;
      }
    }
    const std::vector<std::uint8_t> found = coloured(gains, row);
    const cv::Mat expected = by_tables(rgb, gains);
    double sum = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const int difference = std::abs(found[i] - expected.data[i]);
      sum += difference;
      worst = std::max(worst, difference);
    }
    worst_mean = std::max(worst_mean, sum / static_cast<double>(found.size()));
  }
  // The tables round hue to 2 degrees and cut value and saturation down to whole numbers.
  EXPECT_LT(worst_mean, 2.5) << "worst single value differs by " << worst;
  EXPECT_LE(worst, 24);
}

TEST(Colour, LeavesGreyGreyAndScalesIt) {
  PixelRow row;
  row.resize(9);
  row.fill(0, 9, 100);
  for (const std::uint8_t value : coloured({1.3f, 1.7f, 1.2f}, row)) EXPECT_EQ(value, 120);
  EXPECT_EQ(coloured_grey({1.3f, 1.7f, 1.2f}, 100), 120);
  EXPECT_EQ(coloured_grey({}, 100), 100);
}

TEST(Colour, OneGainOfOneEachChangesNothing) {
  PixelRow row;
  row.resize(500);
  Generator g(1, Purpose::User);
  std::vector<std::uint8_t> same;
  for (int i = 0; i < 500; ++i) {
    for (int c = 0; c < 3; ++c) {
      same.push_back(row.plane(c)[i] = static_cast<std::uint8_t>(g.below(256)));
    }
  }
  EXPECT_EQ(coloured({}, row), same);
  EXPECT_EQ(coloured({1.0f, 1.0f, 1.0000001f}, row), same);  // through the arithmetic
}

}  // namespace
}  // namespace brim::detail
