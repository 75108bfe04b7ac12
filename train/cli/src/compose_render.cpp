#include "compose_render.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <opencv2/imgproc.hpp>

namespace brim::detail {
namespace {

constexpr int kMargin = 4;              ///< black around an object, source pixels
constexpr double kLeastInside = 0.6;    ///< of an object's pixels inside the picture
constexpr double kLeastVisible = 0.55;  ///< of them not covered by others

/// An object cut out of its black background, at source size.
struct Cutout {
  cv::Mat shade;  ///< float 0..1; goes on a little beyond the outline
  cv::Mat mask;   ///< float 0..1
};

/// Everything that lies inside the outline: thresholded, small gaps closed, holes filled.
cv::Mat outline(const cv::Mat& grey) {
  cv::Mat solid = grey > 14;
  cv::morphologyEx(solid, solid, cv::MORPH_CLOSE,
                   cv::getStructuringElement(cv::MORPH_RECT, {3, 3}));
  cv::Mat outside = solid.clone();
  cv::floodFill(outside, {0, 0}, cv::Scalar(255));
  return solid | ~outside;
}

/// Carries the shade of the object outwards, so that its edge does not fade to black.
cv::Mat spread_shade(const cv::Mat& grey, const cv::Mat& solid) {
  cv::Mat shade, weight;
  grey.convertTo(shade, CV_32F, 1 / 255.0);
  solid.convertTo(weight, CV_32F, 1 / 255.0);
  shade = shade.mul(weight);
  for (int pass = 0; pass < 3; ++pass) {
    cv::Mat sum, count;
    cv::boxFilter(shade, sum, -1, {3, 3}, {-1, -1}, false);
    cv::boxFilter(weight, count, -1, {3, 3}, {-1, -1}, false);
    for (int y = 0; y < shade.rows; ++y) {
      for (int x = 0; x < shade.cols; ++x) {
        if (weight.at<float>(y, x) > 0 || count.at<float>(y, x) <= 0) continue;
        shade.at<float>(y, x) = sum.at<float>(y, x) / count.at<float>(y, x);
      }
    }
    weight = cv::Mat(count > 0.5f);
    weight.convertTo(weight, CV_32F, 1 / 255.0);
  }
  return shade;
}

Cutout cut_out(const Record& record) {
  const cv::Mat stored(record.height, record.width, CV_8U,
                       const_cast<std::byte*>(record.memory.data()));
  cv::Mat grey;
  cv::copyMakeBorder(stored, grey, kMargin, kMargin, kMargin, kMargin, cv::BORDER_CONSTANT);
  const cv::Mat solid = outline(grey);
  Cutout cutout;
  cutout.shade = spread_shade(grey, solid);
  solid.convertTo(cutout.mask, CV_32F, 1 / 255.0);
  cv::GaussianBlur(cutout.mask, cutout.mask, {3, 3}, 0.7);
  return cutout;
}

/// An object brought to its size and angle, and where its patch lies in the picture.
struct Placed {
  cv::Mat shade, alpha;
  cv::Rect patch;    ///< in the picture, may reach beyond it
  cv::Rect visible;  ///< `patch` within the picture
  int pixels = 0;    ///< of the whole object
};

Placed place(const Cutout& cutout, const ScenePlan& plan, Generator& random) {
  const double source = cutout.mask.cols - 2 * kMargin;
  const double side =
      plan.size * std::exp(random.uniform(std::log(plan.min_side), std::log(plan.max_side)));
  const double stretch = std::exp(random.uniform(-0.18, 0.18));
  const double sx = side / source * stretch, sy = side / source / stretch;
  const double angle = random.uniform(-1, 1) * std::numbers::pi / (random.chance(0.05) ? 1 : 7);
  const double flip = random.chance(0.5) ? -1 : 1;
  const double c = std::cos(angle), s = std::sin(angle);
  const int reach =
      static_cast<int>(std::ceil(0.5 * std::hypot(cutout.mask.cols * sx, cutout.mask.rows * sy)));
  const double edge = 0.2 * side;
  const double cx = random.uniform(edge, plan.size - edge);
  const double cy = random.uniform(edge, plan.size - edge);

  Placed placed;
  placed.patch = {static_cast<int>(cx) - reach, static_cast<int>(cy) - reach, 2 * reach, 2 * reach};
  placed.visible = placed.patch & cv::Rect(0, 0, plan.size, plan.size);
  // From a pixel of the patch back to the source: undo the angle, then the scale.
  const double ox = (cutout.mask.cols - 1) / 2.0, oy = (cutout.mask.rows - 1) / 2.0;
  const cv::Matx23d back(flip * c / sx, flip * s / sx, ox - flip * (c + s) * reach / sx,  //
                         -s / sy, c / sy, oy - (c - s) * reach / sy);
  const cv::Size size(2 * reach, 2 * reach);
  constexpr int kFlags = cv::INTER_CUBIC | cv::WARP_INVERSE_MAP;
  cv::warpAffine(cutout.shade, placed.shade, back, size, kFlags, cv::BORDER_REPLICATE);
  cv::warpAffine(cutout.mask, placed.alpha, back, size, kFlags, cv::BORDER_CONSTANT);
  const double sharpness = std::max(1.0, 0.8 * std::min(sx, sy));
  placed.alpha = (placed.alpha - 0.5) * sharpness + 0.5;
  cv::min(placed.alpha, 1.0, placed.alpha);
  cv::max(placed.alpha, 0.0, placed.alpha);
  placed.pixels = cv::countNonZero(placed.alpha > 0.5f);
  return placed;
}

/// A scene while it is composed: which object is seen at each pixel.
class Canvas {
 public:
  Canvas(const ScenePlan& plan, Generator& random)
      : image_(compose_background(plan.size, random)),
        owner_(plan.size, plan.size, CV_8U, cv::Scalar(0)) {}

  /// Puts the object on top of the others; false (and nothing changes) where too little of it, or
  /// of one below it, would be seen.
  bool put(const Placed& object, std::int32_t class_id, Generator& random) {
    if (object.pixels < 40 || object.visible.empty()) return false;
    const cv::Mat alpha = object.alpha(object.visible - object.patch.tl());
    const cv::Mat solid = alpha > 0.5f;
    const int inside = cv::countNonZero(solid);
    if (inside < kLeastInside * object.pixels) return false;
    std::vector<int> left = seen_;
    count_covered(solid, object.visible, left);
    for (std::size_t i = 0; i < left.size(); ++i) {
      if (left[i] < kLeastVisible * whole_[i]) return false;
    }
    seen_ = std::move(left);
    seen_.push_back(inside);
    whole_.push_back(object.pixels);
    classes_.push_back(class_id);
    if (random.chance(0.5)) cast_shadow(object, random);
    paint(object, alpha, solid, random);
    owner_(object.visible).setTo(static_cast<double>(seen_.size()), solid);
    return true;
  }

  cv::Mat& image() { return image_; }

  std::vector<Box> boxes() const {
    std::vector<Box> boxes;
    const auto size = static_cast<float>(owner_.cols);
    for (std::size_t i = 0; i < classes_.size(); ++i) {
      const cv::Rect r = cv::boundingRect(owner_ == static_cast<double>(i + 1));
      boxes.push_back({classes_[i],
                       (static_cast<float>(r.x) + 0.5f * static_cast<float>(r.width)) / size,
                       (static_cast<float>(r.y) + 0.5f * static_cast<float>(r.height)) / size,
                       static_cast<float>(r.width) / size, static_cast<float>(r.height) / size});
    }
    return boxes;
  }

 private:
  void count_covered(const cv::Mat& solid, const cv::Rect& at, std::vector<int>& left) const {
    for (int y = 0; y < at.height; ++y) {
      const auto* hit = solid.ptr<std::uint8_t>(y);
      const auto* owner = owner_.ptr<std::uint8_t>(at.y + y) + at.x;
      for (int x = 0; x < at.width; ++x) {
        if (hit[x] != 0 && owner[x] != 0) --left[owner[x] - 1u];
      }
    }
  }

  void cast_shadow(const Placed& object, Generator& random) {
    cv::Mat shadow;
    cv::GaussianBlur(object.alpha, shadow, {}, object.patch.width * random.uniform(0.01, 0.04));
    const int reach = std::max(1, object.patch.width / 25);
    const auto shift = [&] {
      return static_cast<int>(random.below(2 * static_cast<std::uint64_t>(reach) + 1)) - reach;
    };
    const int dx = shift(), dy = shift();
    const cv::Rect moved = object.patch + cv::Point(dx, dy);
    const cv::Rect seen = moved & cv::Rect(0, 0, image_.cols, image_.rows);
    if (seen.empty()) return;
    const double depth = random.uniform(0.2, 0.55);
    cv::Mat keep = 1.0 - depth * shadow(seen - moved.tl());
    cv::Mat keep3, target = image_(seen);
    cv::merge(std::vector<cv::Mat>{keep, keep, keep}, keep3);
    cv::multiply(target, keep3, target);
  }

  /// Dark and light end of a cloth's colours; drawn until it stands out from what is behind it.
  void choose_colours(const cv::Mat& behind, const cv::Mat& solid, Generator& random,
                      cv::Vec3f& dark, cv::Vec3f& light) const {
    const cv::Scalar mean = cv::mean(behind, solid);
    for (int attempt = 0; attempt < 8; ++attempt) {
      const bool coloured = random.chance(0.6);
      const double brightness = random.uniform(110, 250), grey = random.uniform(0.8, 1.0);
      const double low = random.uniform(0.02, 0.35);
      for (int c = 0; c < 3; ++c) {
        const double channel = brightness * (coloured ? random.uniform(0.25, 1.0) : grey);
        light[c] = static_cast<float>(channel);
        dark[c] = static_cast<float>(channel * low);
      }
      if (random.chance(0.25)) std::swap(dark, light);
      double distance = 0;
      for (int c = 0; c < 3; ++c) {
        distance += std::abs(0.4 * dark[c] + 0.6 * light[c] - mean[c]) / 3;
      }
      if (distance > 32) return;
    }
  }

  void paint(const Placed& object, const cv::Mat& alpha, const cv::Mat& solid, Generator& random) {
    cv::Mat target = image_(object.visible);
    const cv::Mat shade = object.shade(object.visible - object.patch.tl());
    cv::Vec3f dark, light;
    choose_colours(target, solid, random, dark, light);
    const double gamma = std::exp(random.uniform(-0.4, 0.4));
    std::array<cv::Vec3f, 257> cloth;  // colour by shade
    for (std::size_t i = 0; i < cloth.size(); ++i) {
      cloth[i] =
          dark + static_cast<float>(std::pow(static_cast<double>(i) / 256, gamma)) * (light - dark);
    }
    for (int y = 0; y < target.rows; ++y) {
      auto* pixel = target.ptr<cv::Vec3f>(y);
      const auto* a = alpha.ptr<float>(y);
      const auto* value = shade.ptr<float>(y);
      for (int x = 0; x < target.cols; ++x) {
        if (a[x] <= 0) continue;
        const float s = std::clamp(value[x], 0.0f, 1.0f) * 256 + 0.5f;
        pixel[x] += a[x] * (cloth[static_cast<std::size_t>(s)] - pixel[x]);
      }
    }
  }

  cv::Mat image_;  ///< BGR float
  cv::Mat owner_;  ///< 1-based number of the object seen, 0: background
  std::vector<int> seen_{}, whole_{};
  std::vector<std::int32_t> classes_{};
};

/// What a camera adds: exposure, blur, noise.
cv::Mat photograph(cv::Mat& image, Generator& random) {
  const double gain = random.uniform(0.8, 1.15), lift = random.uniform(-12, 12);
  if (random.chance(0.5)) cv::GaussianBlur(image, image, {}, random.uniform(0.4, 0.9));
  const double strength = random.uniform(1, 9);
  for (int y = 0; y < image.rows; ++y) {
    auto* value = image.ptr<float>(y);
    for (int x = 0; x < 3 * image.cols; ++x) {
      // Sum of four bytes of one draw: near normal, standard deviation 148.
      const std::uint64_t bits = random.next();
      const auto sum = static_cast<double>((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) +
                                           (bits >> 24 & 255));
      value[x] = static_cast<float>(value[x] * gain + lift + (sum - 510) / 148 * strength);
    }
  }
  cv::Mat pixels;
  image.convertTo(pixels, CV_8U);
  return pixels;
}

}  // namespace

Scene compose_scene(const SceneSource& source, const ScenePlan& plan, std::uint64_t key) {
  Generator random(key, Purpose::Composer);
  Canvas canvas(plan, random);
  const int spread = std::max(0, plan.max_objects - plan.min_objects);
  const int wanted =
      plan.min_objects + static_cast<int>(random.below(static_cast<std::uint64_t>(spread) + 1));
  RecordScratch scratch;
  int placed = 0;
  // A scene that got nothing in goes on trying: every scene has an object.
  for (int attempt = 0; placed < wanted && (attempt < 6 * wanted || (placed == 0 && attempt < 200));
       ++attempt) {
    const std::int64_t index =
        plan.only >= 0 ? plan.only : source.indices[random.below(source.indices.size())];
    const Record record = source.dataset->record(index, scratch);
    if (canvas.put(place(cut_out(record), plan, random), source.class_of(record.class_id), random))
      ++placed;
  }
  Scene scene;
  scene.boxes = canvas.boxes();
  scene.pixels = photograph(canvas.image(), random);
  return scene;
}

}  // namespace brim::detail
