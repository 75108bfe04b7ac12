#include "brim/cache/key.h"

#include <xxhash.h>

namespace brim {

CacheKey make_cache_key(const SourceIdentity& source, std::string_view recipe) {
  struct Parts {
    XXH128_hash_t path;
    std::uint64_t offset;
    std::uint64_t length;
    std::int64_t mtime_ns;
    std::uint64_t sizes;
    XXH128_hash_t recipe;
  };
  const Parts parts{.path = XXH3_128bits(source.path.data(), source.path.size()),
                    .offset = source.offset,
                    .length = source.length,
                    .mtime_ns = source.mtime_ns,
                    .sizes = (std::uint64_t{source.path.size()} << 32) ^ recipe.size(),
                    .recipe = XXH3_128bits(recipe.data(), recipe.size())};
  static_assert(sizeof(Parts) == 64, "no padding takes part in the hash");
  const XXH128_hash_t hash = XXH3_128bits(&parts, sizeof parts);
  return {.high = hash.high64, .low = hash.low64};
}

std::uint64_t checksum64(std::span<const std::byte> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace brim
