#pragma once

#include <string>

#include "brim/train/weights.h"

namespace brim::detail {

/// The zip archive that Python's torch.save makes of a dictionary of tensors: a pickle that refers
/// to nothing but tensors (so that torch.load takes it with weights_only=True), and one record per
/// tensor. LibTorch's own pickle_save adds type tags that such a load refuses.
std::string pickle_state(const StateDict& state);

}  // namespace brim::detail
