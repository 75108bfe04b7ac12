#pragma once

#include <cstdint>
#include <string>

#include "dataset_array.h"

namespace brim::detail {

/// An IDX file of unsigned bytes (LeCun's MNIST format), gzip'ed or not, in memory.
struct IdxFile {
  std::int64_t count = 0;
  std::int64_t height = 1, width = 1;  ///< 1 x 1 for labels
  GrowingArray<std::uint8_t> values{};
};

/// Reads `path`, whose values have `dimensions` (1: labels, 3: images). Throws Error for another
/// kind of file, sizes that do not agree and data cut short.
IdxFile read_idx(const std::string& path, int dimensions);

/// True if `folder` holds IDX images.
bool has_idx_files(const std::string& folder);

}  // namespace brim::detail
