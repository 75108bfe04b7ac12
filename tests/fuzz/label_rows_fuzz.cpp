// YOLO label rows: any text gives labels or Error, and every label lies in range.
#include "dataloader/src/label_rows.h"

#include <stdexcept>

#include "brim/cache/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  brim::detail::LabelRows rows;
  try {
    brim::detail::parse_label_rows({reinterpret_cast<const char*>(data), size}, "l.txt", 80, rows);
  } catch (const brim::Error&) {
    return 0;
  }
  for (const brim::Box& box : rows.boxes) {
    const bool inside = box.cx >= 0 && box.cx <= 1 && box.cy >= 0 && box.cy <= 1 && box.width > 0 &&
                        box.width <= 1 && box.height > 0 && box.height <= 1;
    if (!inside || box.class_id < 0 || box.class_id >= 80)
      throw std::logic_error("a label out of range");
  }
  for (const brim::detail::PolygonRange& p : rows.polygons) {
    if (p.box >= rows.boxes.size() || p.first + p.count > rows.points.size())
      throw std::logic_error("a polygon out of bounds");
  }
  return 0;
}
