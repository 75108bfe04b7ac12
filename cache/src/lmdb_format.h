#pragma once

#include <unistd.h>

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
inline constexpr std::uint32_t kLmdbVersion = 3;
inline constexpr std::string_view kFormatKey = "brim.format";
inline constexpr std::string_view kMarkerName = "brim.lock";
inline constexpr char kLmdbMagic[8] = {'B', 'R', 'I', 'M', 'L', 'M', 'D', 'B'};

/// Value of kFormatKey.
struct LmdbFormat {
  char magic[8];
  std::uint32_t endian;
  std::uint32_t version;
  std::uint64_t reserved;
};
static_assert(sizeof(LmdbFormat) == 24);

/// One value of a block, in the block's directory. A key of zeros: the value was dropped.
struct LmdbRow {
  CacheKey key;
  std::uint32_t offset;             ///< within the block
  std::uint32_t length;             ///< bytes
  std::uint32_t value_checksum[2];  ///< low half, high half

  std::uint64_t checksum() const {
    return std::uint64_t{value_checksum[1]} << 32 | value_checksum[0];
  }
  bool dropped() const { return key == CacheKey{}; }
};
static_assert(sizeof(LmdbRow) == 32);

inline std::uint64_t big_endian(std::uint64_t value) {
  return std::endian::native == std::endian::little ? __builtin_bswap64(value) : value;
}

/// A letter and a block's number, 9 bytes: 'B' names the bytes of the block, 'D' its directory.
using LmdbBlockKey = std::array<std::byte, 9>;
inline constexpr char kBlockLetter = 'B';
inline constexpr char kDirectoryLetter = 'D';
inline LmdbBlockKey lmdb_block_key(char letter, std::uint64_t block) {
  LmdbBlockKey bytes{static_cast<std::byte>(letter)};
  const std::uint64_t word = big_endian(block);
  std::memcpy(bytes.data() + 1, &word, sizeof word);
  return bytes;
}

/// LMDB gives pages of their own, whose place never changes, to records of at least this size.
inline std::uint64_t least_block_bytes() {
  constexpr std::uint64_t kPageHeader = 16;
  return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) - kPageHeader;
}

}  // namespace brim::detail
