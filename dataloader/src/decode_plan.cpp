#include "decode_plan.h"

#include <algorithm>
#include <cmath>

namespace brim::detail {
namespace {

int scaled(int length, int denominator) {
  return (length + denominator - 1) / denominator;
}

/// Largest denominator that leaves `length` at `size` or above.
int choose_denominator(int length, int size) {
  for (const int denominator : {8, 4, 2}) {
    if (scaled(length, denominator) >= size) return denominator;
  }
  return 1;
}

}  // namespace

DecodePlan plan_decode(int width, int height, const DecodeRequest& request, DctScaling scaling) {
  using Fit = DecodeRequest::Fit;
  const bool full = request.fit == Fit::Full || request.size <= 0;
  const int side =
      request.fit == Fit::LongestSide ? std::max(width, height) : std::min(width, height);
  DecodePlan plan;
  if (!full && scaling == DctScaling::Yes)
    plan.denominator = choose_denominator(side, request.size);
  plan.scaled_width = plan.full_width = scaled(width, plan.denominator);
  plan.scaled_height = plan.full_height = scaled(height, plan.denominator);
  if (full || request.fit != Fit::LongestSide) return plan;
  if (std::max(plan.scaled_width, plan.scaled_height) <= request.size) return plan;
  const auto shrink = [&](int length, int limit) {
    const std::int64_t wanted =
        (std::int64_t{2} * length * request.size + side) / (2 * std::int64_t{side});
    return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, limit));
  };
  plan.full_width = shrink(width, plan.scaled_width);
  plan.full_height = shrink(height, plan.scaled_height);
  return plan;
}

Rect to_pixels(const RegionF& region, int width, int height) {
  const auto span = [](double begin, double length, int limit, int& first, int& count) {
    const double low = std::floor(std::clamp(begin, 0.0, 1.0) * limit);
    const double high = std::ceil(std::clamp(begin + length, 0.0, 1.0) * limit);
    first = std::min(static_cast<int>(low), limit - 1);
    count = std::clamp(static_cast<int>(high) - first, 1, limit - first);
  };
  Rect rect;
  span(region.x, region.width, width, rect.x, rect.width);
  span(region.y, region.height, height, rect.y, rect.height);
  return rect;
}

std::string describe_plan(const DecodePlan& plan, const std::string& decoder, int orientation) {
  std::string text = decoder;
  text += plan.denominator > 1 ? " at 1/" + std::to_string(plan.denominator) : " full";
  if (plan.reduces()) {
    text += ", then area to " + std::to_string(plan.full_width) + "x" +
            std::to_string(plan.full_height);
  }
  if (orientation != 1) text += ", turned upright";
  return text;
}

}  // namespace brim::detail
