#pragma once

#include <cstdint>
#include <vector>

namespace brim::detail {

/// Brings RGB rows down by area weighting: a result pixel is the mean of the source rectangle it
/// covers. Integer arithmetic, so the result is the same on every machine. Rows are pushed in
/// order; no picture is held, only one row of sums.
///
///   reducer.begin(w, h, small_w, small_h);               // small_w <= w, small_h <= h
///   if (const std::uint8_t* row = reducer.push(source_row)) store(row);
class AreaReducer {
 public:
  void begin(int width, int height, int out_width, int out_height);
  /// Takes the next source row; the finished result row (valid until the next push), or null.
  const std::uint8_t* push(const std::uint8_t* row);
  std::int64_t bytes() const;

 private:
  void make_taps();
  void finish_row();

  int width_ = 0, height_ = 0, out_width_ = 0, out_height_ = 0;
  std::int64_t source_row_ = 0, out_row_ = 0;
  int pairs_ = 0;                     ///< pairs of taps of every result pixel
  std::vector<std::int32_t> offset_;  ///< first source sample of each result pixel
  std::vector<std::int32_t> weight_;  ///< two 16-bit weights, `pairs_` of them per result pixel
  std::vector<std::uint32_t> sum_;    ///< 17.15 fixed point, one per sample
  std::vector<std::int16_t> mean_;    ///< 8.7 fixed point, one per sample and padding
  std::vector<std::uint8_t> out_;
  int taps_for_width_ = 0, taps_for_out_width_ = 0;
};

}  // namespace brim::detail
