#pragma once

#include <cstddef>

#include "weights_unpickle.h"

namespace brim::detail {

/// Bound on values, on the stack and on what is remembered: one for each byte of a made-up pickle
/// would fill the memory.
inline constexpr std::size_t kMostValues = std::size_t{1} << 23;

/// Adds a value to `tree`; throws ArchiveFault when it holds more than weights ever need.
PickleRef add_node(PickleTree& tree, PickleNode node);

/// What `callable(*arguments)` gives.
PickleRef call(PickleTree& tree, PickleRef callable, PickleRef arguments);

/// What `class.__new__(class, ...)` gives.
PickleRef make_object(PickleTree& tree, PickleRef type);

/// What the persistent id `id` stands for: the storage of a tensor.
PickleRef persistent(PickleTree& tree, PickleRef id);

}  // namespace brim::detail
