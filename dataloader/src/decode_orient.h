#pragma once

#include <cstddef>
#include <cstdint>

#include "brim/dataloader/image.h"

// EXIF orientations 1..8: how stored pixels lie in the upright image (TIFF 6.0, tag 274).
namespace brim::detail {

struct Rect {
  int x = 0, y = 0, width = 0, height = 0;
};

/// Orientations 5..8 exchange width and height.
constexpr bool transposes(int orientation) {
  return orientation >= 5;
}

/// The part of the stored image (`stored_width` x `stored_height`) that `upright` shows.
Rect to_stored(const Rect& upright, int orientation, int stored_width, int stored_height);

/// Writes stored rows to their upright place.
///
///   UprightWriter writer(image.mutable_view(), orientation);
///   writer.put(first_row, row_count, pixels, stride);
class UprightWriter {
 public:
  /// `upright` has the upright size; stored rows have its width, or its height where transposed.
  UprightWriter(MutableImageView upright, int orientation);
  /// RGB rows [first, first + count) of the stored picture.
  void put(int first, int count, const std::uint8_t* rows, std::ptrdiff_t stride) const;
  /// Where stored row `y` lies, if it lies there as it is (orientations 1 and 4); else null.
  std::uint8_t* row_in_place(int y) const;

 private:
  std::uint8_t* origin_ = nullptr;  ///< place of stored pixel (0, 0)
  std::ptrdiff_t step_x_ = 0, step_y_ = 0;
  int stored_width_ = 0;
};

}  // namespace brim::detail
