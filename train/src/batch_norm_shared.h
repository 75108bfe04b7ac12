#pragma once

#include <memory>
#include <vector>

#include "brim/train/layers.h"

namespace brim::detail {

/// What batch norms that this thread calls share while training; null: nothing.
std::shared_ptr<const SharedStatistics>& shared_statistics();

/// `values` become their sums over all ranks.
void reduce_sums(ProcessGroup& group, std::vector<double>& values);

}  // namespace brim::detail
