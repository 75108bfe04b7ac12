#pragma once

#include <span>
#include <vector>

#include "brim/dataloader/random.h"
#include "brim/train/anchors.h"

namespace brim::detail {

/// Centres of `count` clusters of sizes by the logarithms of their sides, because anchors are
/// judged by ratios: seeded by k-means++ (Arthur and Vassilvitskii 2007), refined by Lloyd's
/// algorithm. Fewer distinct sizes than clusters give repeated centres.
std::vector<BoxSize> cluster_sizes(std::span<const BoxSize> sizes, int count, Generator& random);

}  // namespace brim::detail
