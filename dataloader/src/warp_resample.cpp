#include "warp_resample.h"

#include <algorithm>
#include <cmath>

namespace brim::detail {
namespace {

/// One axis: `count` positions over [low, high) of a source `limit` long. Positions count from the
/// pixel that `low` lies in: where the axis begins must not show in any rounding, or a decoded
/// region would give other weights than the whole picture.
class TriangleTaps {
 public:
  TriangleTaps(double low, double high, int limit, int count, std::vector<double>& shares)
      : shares_(shares),
        base_(static_cast<int>(std::floor(low))),
        low_(low - base_),
        scale_((high - low) / count),
        support_(std::max(1.0, scale_)) {
    constexpr double kNoise = 1e-6;
    begin_ = std::clamp(base_ + static_cast<int>(std::floor(low_ + kNoise)), 0, limit - 1);
    end_ = std::clamp(base_ + static_cast<int>(std::ceil(low_ + (high - low) - kNoise)), begin_ + 1,
                      limit);
    const int most = static_cast<int>(std::ceil(2 * support_ - kNoise));
    count_ = std::max(2, (most + 1) / 2 * 2);
    shares_.resize(static_cast<std::size_t>(count_));
  }
  /// Of every position; even.
  int count() const { return count_; }
  /// Source pixels that may be read: [begin, end).
  int begin() const { return begin_; }
  int end() const { return end_; }

  /// Source pixel of the first tap of position `i`.
  int first(int i) const {
    const int first = static_cast<int>(std::floor(centre(i) - support_)) + 1;
    return std::clamp(base_ + first, begin_, end_ - 1);
  }
  /// Weights of position `i`; pixels outside [begin, end) weigh nothing.
  void weigh(int i, std::uint8_t* weights) {
    const int from = first(i), present = std::min(count_, end_ - from);
    double total = 0;
    for (int k = 0; k < count_; ++k) {
      const double share =
          k < present ? std::max(0.0, 1 - std::fabs(from - base_ + k - centre(i)) / support_) : 0.0;
      shares_[static_cast<std::size_t>(k)] = share;
      total += share;
    }
    if (total > 0) {
      for (double& share : shares_) share /= total;
    } else {
      shares_[0] = 1;
    }
    to_weights(shares_.data(), count_, weights);
  }

 private:
  /// Measured from pixel `base_`.
  double centre(int i) const { return low_ + (i + 0.5) * scale_ - 0.5; }

  std::vector<double>& shares_;  ///< scratch
  int base_;
  double low_, scale_, support_;
  int begin_ = 0, end_ = 0, count_ = 2;
};

}  // namespace

void Resampler::plan(const ImageView& pixels, const RectD& rect, Size out, Flips flips) {
  pixels_ = pixels;
  TriangleTaps columns(rect.x1, rect.x2, pixels.width, out.width, shares_);
  columns_.begin_plan(0, out.width, columns.count());
  for (int i = 0; i < out.width; ++i) {
    const int x = flips.left_right ? out.width - 1 - i : i;
    columns.weigh(i, columns_.set(x, columns.first(i)));
  }
  columns_.end_plan(columns.begin(), columns.end());

  TriangleTaps rows(rect.y1, rect.y2, pixels.height, out.height, shares_);
  row_taps_ = rows.count();
  last_row_ = rows.end() - 1;
  first_rows_.resize(static_cast<std::size_t>(out.height));
  row_weights_.resize(static_cast<std::size_t>(out.height * row_taps_));
  taken_.resize(static_cast<std::size_t>(row_taps_));
  for (int i = 0; i < out.height; ++i) {
    const int y = flips.up_down ? out.height - 1 - i : i;
    first_rows_[static_cast<std::size_t>(y)] = rows.first(i);
    rows.weigh(i, row_weights_.data() + std::ptrdiff_t{y} * row_taps_);
  }
}

void Resampler::row(int y, PixelRow& out) {
  const int first = first_rows_[static_cast<std::size_t>(y)];
  for (int k = 0; k < row_taps_; ++k) {
    taken_[static_cast<std::size_t>(k)] = pixels_.row(std::min(first + k, last_row_));
  }
  blended_.blend(isa_,
                 {taken_.data(), row_weights_.data() + std::ptrdiff_t{y} * row_taps_, row_taps_},
                 columns_.first_column(), columns_.column_count(), columns_.taps());
  columns_.apply(isa_, blended_, out);
}

}  // namespace brim::detail
