// COCO JSON: any bytes give content whose references hold, or Error.
#include <sstream>
#include <stdexcept>

#include "brim/cache/error.h"
#include "dataloader/src/coco_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
  try {
    const brim::detail::CocoContent content = brim::detail::read_coco(in, "c.json");
    for (const auto& image : content.images) {
      if (image.name + image.name_length > content.names.size())
        throw std::logic_error("a name out of bounds");
    }
    for (const auto& annotation : content.annotations) {
      if (annotation.first_polygon + annotation.polygons > content.outlines.size())
        throw std::logic_error("an outline out of bounds");
    }
    for (const auto& outline : content.outlines) {
      if (outline.first + outline.count > content.points.size())
        throw std::logic_error("points out of bounds");
    }
  } catch (const brim::Error&) {
  }
  return 0;
}
