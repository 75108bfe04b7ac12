#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "brim/dataloader/dataset.h"

namespace brim::detail {

/// Points of one polygon within LabelRows::points (count numbers, x0 y0 x1 y1 ...).
struct PolygonRange {
  std::uint32_t box = 0;  ///< index within the file's boxes
  std::uint32_t count = 0;
  std::uint64_t first = 0;
};

struct LabelProblem {
  std::int64_t line = 0;
  std::string reason;
  bool bad = true;  ///< false: a harmless duplicate
};

/// The labels of one or more images, parsed.
struct LabelRows {
  std::vector<Box> boxes;
  std::vector<PolygonRange> polygons;
  std::vector<float> points;
  std::vector<LabelProblem> problems;
  std::int64_t rows = 0;  ///< that hold anything, good or bad
};

/// Adds the rows of one label file to `out`: `class cx cy width height` or
/// `class x1 y1 x2 y2 x3 y3 ...` (a polygon, whose box is its extent), fractions of the image.
/// A row that is neither, is not finite, or leaves [0, 1] is rejected into `out.problems`; a row
/// equal to an earlier one of the file is dropped. A class outside [0, classes) throws Error,
/// because a wrong list of names spoils the whole training; classes < 0: any class.
void parse_label_rows(std::string_view text, const std::string& file, std::int64_t classes,
                      LabelRows& out);

}  // namespace brim::detail
