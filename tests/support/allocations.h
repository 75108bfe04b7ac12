#pragma once

#include <cstddef>
#include <cstdint>

namespace brim::test {

/// What malloc and its kin gave out in this process since the last `reset_allocations()`. A test
/// binary counts when it uses these; false from `counts_allocations` under sanitizers, which have
/// an allocator of their own.
struct Allocations {
  std::int64_t count = 0;
  std::int64_t live_bytes = 0;  ///< taken minus given back since the reset; may be negative
  std::int64_t peak_bytes = 0;  ///< highest live_bytes
};

bool counts_allocations();
void reset_allocations();
Allocations allocations();

}  // namespace brim::test
