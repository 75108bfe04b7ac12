#pragma once

#include <cstdint>

namespace brim {

/// Resident bytes of this process now, mapped files included; 0 where it cannot be read. One read
/// of /proc/self/statm: cheap enough for every line that is shown, unlike read_memory_limits().
std::int64_t resident_bytes();

}  // namespace brim
