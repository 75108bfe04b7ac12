#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "brim/train/weights.h"

namespace brim::detail {

/// The zip archive that Python's torch.save makes of a dictionary of tensors: a pickle that refers
/// to nothing but tensors (so that torch.load takes it with weights_only=True), and one record per
/// tensor. LibTorch's own pickle_save adds type tags that such a load refuses.
std::string pickle_state(const StateDict& state);

/// The same of a dictionary of such dictionaries and of texts.
using StateSection = std::variant<StateDict, std::string>;
std::string pickle_sections(const std::vector<std::pair<std::string, StateSection>>& sections);

}  // namespace brim::detail
