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
  const auto ram = [&](std::int64_t byte_limit) {
    return make_ram_store({.byte_limit = byte_limit,
                           .budget = options.budget,
                           .share_name = options.share_name,
                           .share = options.share});
  };
  switch (options.mode) {
    case CacheMode::None:
      return nullptr;
    case CacheMode::Ram:
      return ram(options.byte_limit);
    case CacheMode::Disk:
      return disk();
    case CacheMode::Lmdb:
      return make_lmdb_store(
          {.directory = options.directory.empty() ? "" : options.directory + "/lmdb",
           .byte_limit = options.byte_limit,
           .budget = options.budget});
    case CacheMode::Tiered:
      return make_tiered_store(ram(0), disk(), options.budget);
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

CacheShare parse_cache_share(const std::string& text, const std::string& key) {
  if (text == "auto") return CacheShare::Auto;
  if (text == "never") return CacheShare::Never;
  if (text == "machine") return CacheShare::Machine;
  throw Error("'" + text + "' does not say how a cache is shared", {.key = key},
              "one of auto, never, machine");
}

}  // namespace brim
