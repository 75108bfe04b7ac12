#pragma once

#include "brim/dataloader/torch/libtorch.h"

namespace brim::detail {

/// Float32 on the CPU with every element of its memory in use: a kernel may walk it linearly.
bool is_plain_float(const torch::Tensor& tensor);
/// Elements of both lie in memory in the same order (strides of sides of length 1 do not count).
bool same_order(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace brim::detail
