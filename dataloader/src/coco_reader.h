#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "dataset_array.h"

namespace brim::detail {

/// What a COCO detection file says, in its order.
struct CocoContent {
  struct Image {
    std::int64_t id = 0;
    std::uint64_t name = 0;  ///< into `names`
    std::uint32_t name_length = 0;
    std::int32_t width = 0, height = 0;  ///< 0: not given
  };
  struct Annotation {
    std::int64_t id = -1, image = 0, category = 0;
    double box[4] = {};   ///< left, top, width, height in pixels
    int box_numbers = 0;  ///< how many the file gave
    bool crowd = false;
    std::uint64_t first_polygon = 0;
    std::uint32_t polygons = 0;
  };
  struct Outline {
    std::uint64_t first = 0, count = 0;  ///< into `points`, pixels, two per point
  };
  struct Category {
    std::int64_t id = 0;
    std::string name;
  };
  GrowingArray<char> names;
  GrowingArray<Image> images;
  GrowingArray<Annotation> annotations;
  GrowingArray<Outline> outlines;
  GrowingArray<float> points;
  std::vector<Category> categories;
};

/// Parses `in` as it streams by: memory is that of the content, not of a JSON tree. Throws Error
/// (naming `file`) for broken JSON and for images, annotations or categories without their ids.
CocoContent read_coco(std::istream& in, const std::string& file);

}  // namespace brim::detail
