#pragma once

#include <memory>
#include <vector>

#include "brim/train/layers.h"

namespace brim::detail {

/// Who shares the statistics of `norm`; null: nobody.
std::shared_ptr<const SharedStatistics> shared_of(const torch::nn::BatchNorm2d& norm);

/// `values` become their sums over all ranks.
void reduce_sums(ProcessGroup& group, std::vector<double>& values);

}  // namespace brim::detail
