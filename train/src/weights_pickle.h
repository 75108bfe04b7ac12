#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "brim/train/weights.h"

namespace brim::detail {

/// The zip archive that Python's torch.save makes of a dictionary of tensors: a pickle that refers
/// to nothing but tensors (so that torch.load takes it with weights_only=True), and one record per
/// tensor. LibTorch's own pickle_save adds type tags that such a load refuses.
std::string pickle_state(const StateDict& state);

/// The same of a dictionary of such dictionaries and of texts, piece by piece to `sink`, which must
/// not throw: a checkpoint is never held in memory a second time.
using StateSection = std::variant<StateDict, std::string>;
using StateSections = std::vector<std::pair<std::string, StateSection>>;
void pickle_sections(const StateSections& sections,
                     const std::function<void(std::string_view)>& sink);

}  // namespace brim::detail
