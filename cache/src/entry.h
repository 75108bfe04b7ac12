#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "brim/cache/key.h"

namespace brim::detail {

/// Written as a native 32-bit integer; a machine of the other byte order reads 0x04030201.
inline constexpr std::uint32_t kEndianTag = 0x01020304;

/// Checksum of a value that is bound to its key: right bytes under a wrong key do not match.
inline std::uint64_t value_checksum(const CacheKey& key, std::span<const std::byte> value) {
  return checksum64(value, key.high ^ (key.low * 0x9E3779B97F4A7C15ULL) ^ value.size());
}

}  // namespace brim::detail
