#pragma once

#include <cstdint>

#include "brim/dataloader/dataset.h"
#include "dataset_index.h"

namespace brim::detail {

/// Reads header and label file of every sample of `index` (class names set) in parallel. Throws
/// Error for a class out of range and for too many bad rows.
void read_yolo_labels(SampleIndex& index, const DatasetOptions& options);

}  // namespace brim::detail
