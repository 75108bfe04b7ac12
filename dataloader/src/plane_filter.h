#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "augment_simd.h"
#include "pixel_row.h"

namespace brim::detail {

/// Separable filtering of RGB rows, in two steps: source rows are blended into one row of planes,
/// then every output pixel is a weighted sum of neighbouring columns of it. Weights of either step
/// are bytes, 1/256 each, and sum to 256; in between stand rounded 8-bit values less 128. The same
/// bytes for every `isa`.

/// Source rows (first bytes of them) and their weights; `count` is even. What lies `ahead` bytes
/// from the first row is fetched into the cache on the way, if that is not 0.
struct RowTaps {
  const std::uint8_t* const* rows = nullptr;
  const std::uint8_t* weights = nullptr;
  int count = 0;
  std::ptrdiff_t ahead = 0;
};

/// A blended row: a plane of `pitch` bytes per channel.
class BlendedRow {
 public:
  /// Blends source columns [first, first + count); reads nothing beside them. What follows the last
  /// column of each plane repeats it, `repeats` times.
  void blend(Isa isa, const RowTaps& taps, int first, int count, int repeats);
  const std::int8_t* plane(int channel) const { return bytes_.data() + channel * pitch_; }
  std::ptrdiff_t pitch() const { return pitch_; }

 private:
  std::vector<std::int8_t> bytes_;
  std::ptrdiff_t pitch_ = 0;
};

/// Which columns output pixels [begin, end) are made of. Planned once, used for every row.
class ColumnFilter {
 public:
  /// Starts a plan of `taps` (even) neighbouring columns per pixel.
  void begin_plan(int begin, int end, int taps);
  /// Pixel `x` reads columns from `first` on. Its weights, zeros at first, are to be filled in.
  std::uint8_t* set(int x, int first);
  /// Ends the plan. Columns lie in [low, high): taps at and beyond `high` repeat the last.
  void end_plan(int low, int high);

  int begin() const { return begin_; }
  int end() const { return end_; }
  int taps() const { return taps_; }
  int first_column() const { return first_column_; }
  int column_count() const { return column_count_; }

  /// Writes pixels [begin, end) of `row` from a row whose columns begin at first_column(). Up to 31
  /// bytes behind `end` are lost in each plane.
  void apply(Isa isa, const BlendedRow& from, PixelRow& row) const;

 private:
  /// How many neighbouring pixels read their tap from one window of 16 columns.
  enum class Reach : std::uint8_t { Eight, Four, Fewer };
  struct alignas(32) Lanes {
    std::array<std::uint8_t, 32> at;
  };
  bool alone(std::size_t pixel) const;
  bool plan_windows(int pixels);
  void plan_weights();
  void apply_portable(const BlendedRow& from, PixelRow& row) const;
  void apply_avx2(const BlendedRow& from, PixelRow& row) const;

  int begin_ = 0, end_ = 0, taps_ = 2;
  int first_column_ = 0, column_count_ = 0;
  std::vector<std::int32_t> first_;    ///< column of each pixel's first tap
  std::vector<std::uint8_t> weights_;  ///< `taps_` per pixel
  // For groups of 32 pixels, in the order of the kernel's registers.
  Reach reach_ = Reach::Fewer;
  std::vector<std::int32_t> windows_;  ///< first column of each window
  std::vector<Lanes> orders_;          ///< where a tap and its right neighbour lie in the window
  std::vector<Lanes> paired_weights_;  ///< of a pair of taps, side by side as in `orders_`
};

/// Rounds `shares` (sum 1; none but the first is 1) to `weights`.
void to_weights(const double* shares, int count, std::uint8_t* weights);

}  // namespace brim::detail
