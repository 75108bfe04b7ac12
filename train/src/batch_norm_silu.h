#pragma once

#include "brim/train/layers.h"

namespace brim::detail {

/// Whether `parts` can take the fused path: CPU, float32, channels-last rows, channels a multiple
/// of 4, and all norms in training mode or none of them.
bool can_fuse(const std::vector<BatchNormSiluPart>& parts);

/// The fused forward with its backward attached.
torch::Tensor fused_batch_norm_silu(const std::vector<BatchNormSiluPart>& parts);

/// The same from torch's operations, any device, type and layout.
torch::Tensor composed_batch_norm_silu(const std::vector<BatchNormSiluPart>& parts);

}  // namespace brim::detail
