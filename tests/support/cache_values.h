#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "brim/cache/stores.h"

namespace brim::test {

/// The i-th key of a test, and the bytes that belong to it alone: whoever reads a value can tell
/// from its key whether it is right.
inline CacheKey key_of(std::uint64_t i) {
  return make_cache_key({.path = "image-" + std::to_string(i), .length = i, .mtime_ns = 7}, "test");
}

inline std::vector<std::byte> value_of(std::uint64_t i, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = i * 1000003 + 17;
  for (std::size_t at = 0; at < size; at += 8) {  // the mixing of splitmix64 (Steele et al. 2014)
    std::uint64_t word = state += 0x9E3779B97F4A7C15ULL;
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9ULL;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBULL;
    word ^= word >> 31;
    std::memcpy(bytes.data() + at, &word, std::min<std::size_t>(8, size - at));
  }
  return bytes;
}

/// A size that depends on i alone, mostly small, sometimes large.
inline std::size_t size_of(std::uint64_t i, std::size_t most = 40000) {
  std::mt19937_64 generator(i + 99);
  switch (generator() % 8) {
    case 0:
      return generator() % 3;
    case 1:
      return generator() % most;
    default:
      return generator() % 3000;
  }
}

inline bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

/// Whether the register of the share `name` is there; those of others come and go.
inline bool is_registered(const std::string& name) {
  char hash[24];
  std::snprintf(hash, sizeof hash, "%016llx",
                static_cast<unsigned long long>(checksum64(std::as_bytes(std::span(name)))));
  return std::filesystem::exists("/dev/shm/brim-" + std::to_string(::getuid()) + "-" + hash);
}

/// What every kind of store is tested with: opened on a folder that outlives the store.
struct StoreKind {
  std::string name;
  bool lasting = false;  ///< what was put is there after the store has been opened again
  std::function<std::shared_ptr<Store>(const std::string& directory, std::int64_t byte_limit)> open;
};

inline std::ostream& operator<<(std::ostream& out, const StoreKind& kind) {
  return out << kind.name;
}

inline std::vector<StoreKind> store_kinds() {
  const auto budget = [](std::int64_t limit) {
    return MemoryBudget::make({.byte_limit = limit > 0 ? limit : std::int64_t{64} << 20});
  };
  const auto ram = [budget](const std::string&, std::int64_t limit) {
    return make_ram_store({.byte_limit = limit, .budget = budget(limit)});
  };
  const auto shared = [budget](const std::string& directory, std::int64_t limit) {
    return make_ram_store({.byte_limit = limit,
                           .budget = budget(limit),
                           .share_name = directory,
                           .share = CacheShare::Machine});
  };
  const auto disk = [](const std::string& directory, std::int64_t limit) {
    return make_disk_store(
        {.directory = directory + "/disk", .byte_limit = limit, .segment_bytes = 1 << 20});
  };
  const auto lmdb = [](const std::string& directory, std::int64_t limit) {
    return make_lmdb_store({.directory = directory + "/lmdb",
                            .byte_limit = limit,
                            .batch_bytes = 256 << 10,
                            .batch_delay_ms = 5,
                            .map_bytes = 1 << 18});
  };
  return {
      {"ram", false, ram},
      {"ram_shared", false, shared},
      {"disk", true, disk},
      {"lmdb", true, lmdb},
      {"tiered_disk", true,
       [ram, disk](const std::string& directory, std::int64_t limit) {
         return make_tiered_store(ram(directory, std::int64_t{1} << 19), disk(directory, limit));
       }},
      {"tiered_lmdb", true, [ram, lmdb](const std::string& directory, std::int64_t limit) {
         return make_tiered_store(ram(directory, std::int64_t{1} << 19), lmdb(directory, limit));
       }}};
}

}  // namespace brim::test
