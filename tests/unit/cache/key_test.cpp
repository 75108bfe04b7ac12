#include "brim/cache/key.h"

#include <gtest/gtest.h>

#include <set>

namespace brim {
namespace {

TEST(CacheKey, ChangesWithEverythingTheValueDependsOn) {
  const SourceIdentity source{.path = "/data/a.jpg", .offset = 1, .length = 2, .mtime_ns = 3};
  std::set<CacheKey> keys;
  keys.insert(make_cache_key(source, "decoded:v1"));
  keys.insert(make_cache_key(source, "decoded:v2"));
  for (int change = 0; change < 4; ++change) {
    SourceIdentity other = source;
    if (change == 0) other.path = "/data/b.jpg";
    if (change == 1) other.offset = 9;
    if (change == 2) other.length = 9;
    if (change == 3) other.mtime_ns = 9;
    keys.insert(make_cache_key(other, "decoded:v1"));
  }
  keys.insert(make_cache_key(
      {.path = "/data/a.jpgdecoded", .offset = 1, .length = 2, .mtime_ns = 3}, ":v1"));
  EXPECT_EQ(keys.size(), 7U);
  EXPECT_EQ(make_cache_key(source, "decoded:v1"), make_cache_key(source, "decoded:v1"));
}

/// Files written today must be readable tomorrow: these numbers are part of the format.
TEST(CacheKey, KeepsItsValueFromVersionToVersion) {
  const CacheKey key = make_cache_key(
      {.path = "/data/a.jpg", .offset = 1, .length = 2, .mtime_ns = 3}, "decoded:v1");
  EXPECT_EQ(key.high, 0x90c808fee952ce62ULL);
  EXPECT_EQ(key.low, 0x46c6f70780895d78ULL);
  EXPECT_EQ(checksum64({}, 0), 0x2D06800538D394C2ULL);  // XXH3-64 of no bytes, from its reference
}

}  // namespace
}  // namespace brim
