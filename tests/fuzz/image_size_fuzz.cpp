// Image headers: any bytes give a size or none.
#include "dataloader/src/dataset_image_size.h"

#include <stdexcept>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  brim::detail::HeaderSource source(std::as_bytes(std::span(data, size)));
  const brim::detail::ImageSize found = brim::detail::read_image_size(source);
  if (found.width < 0 || found.height < 0 || (found.width == 0) != (found.height == 0))
    throw std::logic_error("half a size");
  return 0;
}
