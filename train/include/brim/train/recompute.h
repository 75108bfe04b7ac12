#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <functional>

namespace brim {

/// forward(x), but what it keeps for the backward pass is thrown away and computed again there
/// (Chen et al. 2016): memory of a block's inside against one more forward pass. `block` holds the
/// parameters and buffers that `forward` uses. Results and gradients are those of plain forward(x):
/// the second pass sees the generator and the autocast of the first, and leaves generator and
/// batch-norm statistics as it found them. Where no gradient is wanted it is forward(x).
torch::Tensor recompute_in_backward(
    const torch::nn::Module& block,
    const std::function<torch::Tensor(const torch::Tensor&)>& forward, const torch::Tensor& x);

}  // namespace brim
