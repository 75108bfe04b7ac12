#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "brim/cache/key.h"
#include "entry.h"

namespace brim::detail {

/// The records of the unnamed database; docs/cache_format.md describes them.
inline constexpr std::uint32_t kLmdbVersion = 2;
inline constexpr std::string_view kFormatKey = "brim.format";
inline constexpr std::string_view kMarkerName = "brim.lock";
inline constexpr char kLmdbMagic[8] = {'B', 'R', 'I', 'M', 'L', 'M', 'D', 'B'};

/// Value of kFormatKey.
struct LmdbFormat {
  char magic[8];
  std::uint32_t endian;
  std::uint32_t version;
  std::uint64_t next_block;
};
static_assert(sizeof(LmdbFormat) == 24);

/// Value of a cache key: where in which block the bytes are. Small, because the tree of records is
/// what small values cost.
struct LmdbRecord {
  std::uint32_t block;
  std::uint32_t offset;
  std::uint32_t length;
  std::uint32_t value_checksum[2];  ///< low half, high half

  std::uint64_t checksum() const {
    return std::uint64_t{value_checksum[1]} << 32 | value_checksum[0];
  }
  friend bool operator==(const LmdbRecord&, const LmdbRecord&) = default;
};
static_assert(sizeof(LmdbRecord) == 20);

inline std::uint64_t big_endian(std::uint64_t value) {
  return std::endian::native == std::endian::little ? __builtin_bswap64(value) : value;
}

/// 16 bytes, big-endian: sorts and prints as the key does.
using LmdbKey = std::array<std::byte, 16>;
inline LmdbKey lmdb_key(const CacheKey& key) {
  LmdbKey bytes;
  const std::uint64_t words[2] = {big_endian(key.high), big_endian(key.low)};
  std::memcpy(bytes.data(), words, sizeof words);
  return bytes;
}

/// 'B' and the block's number, 9 bytes.
using LmdbBlockKey = std::array<std::byte, 9>;
inline LmdbBlockKey lmdb_block_key(std::uint64_t block) {
  LmdbBlockKey bytes{std::byte{'B'}};
  const std::uint64_t word = big_endian(block);
  std::memcpy(bytes.data() + 1, &word, sizeof word);
  return bytes;
}

}  // namespace brim::detail
