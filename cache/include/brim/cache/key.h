#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

namespace brim {

/// 128-bit name of one cached value (XXH3 of everything the value depends on).
struct CacheKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend auto operator<=>(const CacheKey&, const CacheKey&) = default;
};

/// What identifies the bytes of one source: a changed file gets another key. For bytes that lie
/// inside a larger file (tar shard, IDX) `offset` and `length` say where.
struct SourceIdentity {
  std::string_view path;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::int64_t mtime_ns = 0;
};

/// Key of `source` after `recipe` (a text that names what was done to the bytes and its settings,
/// e.g. "decoded:v1:longest=640"). Labels take no part in it.
CacheKey make_cache_key(const SourceIdentity& source, std::string_view recipe);

/// 64-bit XXH3 checksum.
std::uint64_t checksum64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

}  // namespace brim

template <>
struct std::hash<brim::CacheKey> {
  std::size_t operator()(const brim::CacheKey& key) const noexcept {
    return static_cast<std::size_t>(key.low);
  }
};
