#include <array>
#include <cmath>
#include <numbers>
#include <opencv2/imgproc.hpp>

#include "compose_render.h"

namespace brim::detail {
namespace {

/// Mostly muted, as rooms and streets are.
cv::Scalar random_colour(Generator& random) {
  const double grey = random.uniform(35, 220), reach = random.chance(0.2) ? 90 : 35;
  cv::Scalar colour;
  for (int c = 0; c < 3; ++c) colour[c] = grey + random.uniform(-reach, reach);
  return colour;
}

/// A colour near `base`, each channel by at most `reach`.
cv::Scalar near_colour(const cv::Scalar& base, double reach, Generator& random) {
  cv::Scalar colour;
  for (int c = 0; c < 3; ++c) colour[c] = base[c] + random.uniform(-reach, reach);
  return colour;
}

/// Ramp from 0 to 1 along a random direction (32-bit float, one channel).
cv::Mat ramp(int size, Generator& random) {
  const double angle = random.uniform(0, 2 * std::numbers::pi);
  const double dx = std::cos(angle), dy = std::sin(angle);
  cv::Mat out(size, size, CV_32F);
  for (int y = 0; y < size; ++y) {
    auto* row = out.ptr<float>(y);
    for (int x = 0; x < size; ++x) {
      const double along = (dx * (2.0 * x / size - 1) + dy * (2.0 * y / size - 1)) / 1.4142;
      row[x] = static_cast<float>(0.5 + 0.5 * along);
    }
  }
  return out;
}

/// Sum of smooth random grids, each twice as fine and half as strong (-1 to 1).
cv::Mat clouds(int size, int cells, int octaves, Generator& random) {
  cv::Mat sum(size, size, CV_32F, cv::Scalar(0));
  double strength = 0.5;
  for (int octave = 0; octave < octaves && cells <= size; ++octave) {
    cv::Mat grid(cells, cells, CV_32F);
    for (float& value : cv::Mat_<float>(grid)) value = static_cast<float>(random.uniform(-1, 1));
    cv::Mat fine;
    cv::resize(grid, fine, sum.size(), 0, 0, cv::INTER_CUBIC);
    sum += strength * fine;
    strength *= 0.55;
    cells *= 2;
  }
  return sum;
}

/// Soft or hard stripes, or checks of two of them (-1 to 1).
cv::Mat stripes(int size, Generator& random) {
  const double angle = random.uniform(0, std::numbers::pi);
  const double wave = 2 * std::numbers::pi / (size * random.uniform(0.03, 0.2));
  const bool checks = random.chance(0.4), hard = random.chance(0.5);
  cv::Mat out(size, size, CV_32F);
  const double c = std::cos(angle) * wave, s = std::sin(angle) * wave;
  for (int y = 0; y < size; ++y) {
    auto* row = out.ptr<float>(y);
    for (int x = 0; x < size; ++x) {
      double value = std::sin(c * x + s * y);
      if (checks) value *= std::sin(-s * x + c * y);
      if (hard) value = std::tanh(6 * value);
      row[x] = static_cast<float>(value);
    }
  }
  return out;
}

void add_in_colour(cv::Mat& image, const cv::Mat& pattern, const cv::Scalar& colour) {
  cv::Mat channels[3];
  cv::split(image, channels);
  for (int c = 0; c < 3; ++c) channels[c] += colour[c] * pattern;
  cv::merge(channels, 3, image);
}

/// Soft-edged rectangles and discs, as furniture and floors give.
void add_shapes(cv::Mat& image, const cv::Scalar& base, Generator& random) {
  const int size = image.cols;
  const int count = static_cast<int>(random.below(5));
  for (int i = 0; i < count; ++i) {
    cv::Mat shape(image.size(), CV_32F, cv::Scalar(0));
    const cv::Point2f centre{static_cast<float>(random.uniform(0, size)),
                             static_cast<float>(random.uniform(0, size))};
    const double width = size * random.uniform(0.1, 0.7), height = size * random.uniform(0.1, 0.7);
    const double angle = random.uniform(0, 180);
    const cv::RotatedRect place(centre, cv::Size2d(width, height), static_cast<float>(angle));
    if (random.chance(0.5)) {
      cv::ellipse(shape, place, cv::Scalar(1), cv::FILLED);
    } else {
      std::array<cv::Point2f, 4> corners;
      place.points(corners.data());
      std::array<cv::Point, 4> whole;
      for (std::size_t k = 0; k < 4; ++k) whole[k] = corners[k];
      cv::fillConvexPoly(shape, whole, cv::Scalar(1));
    }
    const double blur = random.uniform(0.5, 3);
    cv::GaussianBlur(shape, shape, {}, blur);
    const cv::Scalar colour = near_colour(base, 60, random);
    const double strength = random.uniform(0.3, 0.9);
    add_in_colour(image, shape, (colour - base) * strength);
  }
}

}  // namespace

cv::Mat compose_background(int size, Generator& random) {
  const cv::Scalar base = random_colour(random);
  cv::Mat image(size, size, CV_32FC3, base);
  const cv::Mat light = ramp(size, random);
  const cv::Scalar slope = cv::Scalar::all(random.uniform(-60, 60));
  add_in_colour(image, light, near_colour(slope, 30, random));
  add_shapes(image, base, random);
  const int cells = 2 + static_cast<int>(random.below(10));
  const double cloudy = random.uniform(10, 55);
  const cv::Mat cloud = clouds(size, cells, 5, random);
  add_in_colour(image, cloud, near_colour(cv::Scalar::all(cloudy), cloudy / 4, random));
  if (random.chance(0.4)) {
    const double strength = random.uniform(4, 28);
    const cv::Mat striped = stripes(size, random);
    add_in_colour(image, striped, near_colour(cv::Scalar::all(strength), strength / 3, random));
  }
  return image;
}

}  // namespace brim::detail
