#include "brim/cache/stores.h"

#include <unistd.h>

#include <array>
#include <utility>

#include "brim/cache/error.h"

namespace brim {
namespace {

constexpr std::array<std::pair<CacheMode, const char*>, 5> kModes{{
    {CacheMode::None, "none"},
    {CacheMode::Ram, "ram"},
    {CacheMode::Disk, "disk"},
    {CacheMode::Lmdb, "lmdb"},
    {CacheMode::Tiered, "tiered"},
}};

}  // namespace

std::shared_ptr<Store> make_store(const CacheOptions& options) {
  const auto disk = [&] {
    return make_disk_store(
        {.directory = options.directory.empty() ? "" : options.directory + "/disk",
         .byte_limit = options.byte_limit});
  };
  switch (options.mode) {
    case CacheMode::None:
      return nullptr;
    case CacheMode::Ram:
      return make_ram_store({.byte_limit = options.byte_limit, .budget = options.budget});
    case CacheMode::Disk:
      return disk();
    case CacheMode::Lmdb:
      return make_lmdb_store(
          {.directory = options.directory.empty() ? "" : options.directory + "/lmdb",
           .byte_limit = options.byte_limit,
           .budget = options.budget});
    case CacheMode::Tiered:
      return make_tiered_store(make_ram_store({.byte_limit = 0, .budget = options.budget}), disk());
  }
  return nullptr;
}

std::string default_cache_directory(const std::string& xdg_cache_home, const std::string& home) {
  // A relative path in either variable is invalid by the XDG base directory specification.
  if (xdg_cache_home.starts_with('/')) return xdg_cache_home + "/brim";
  if (home.starts_with('/')) return home + "/.cache/brim";
  return "/var/tmp/brim-" + std::to_string(::getuid());
}

CacheMode parse_cache_mode(const std::string& text, const std::string& key) {
  for (const auto& [mode, name] : kModes)
    if (text == name) return mode;
  throw Error("'" + text + "' is no cache mode", {.key = key},
              "one of none, ram, disk, lmdb, tiered");
}

std::string to_string(CacheMode mode) {
  for (const auto& [known, name] : kModes)
    if (known == mode) return name;
  return "none";
}

}  // namespace brim
