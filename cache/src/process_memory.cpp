#include "brim/cache/process_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <limits>
#include <optional>

namespace brim {
namespace {
std::atomic<std::int64_t> g_idle_address_space{0};

/// Field of /proc/self/statm, counted from 0: size, resident, shared, text, lib, data.
std::optional<std::int64_t> statm_bytes(int field) {
  std::ifstream in("/proc/self/statm");
  std::int64_t pages = 0;
  for (int i = 0; i <= field; ++i) in >> pages;
  if (!in) return std::nullopt;
  return pages * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

std::int64_t resident_bytes() {
  return statm_bytes(1).value_or(0);
}

std::int64_t private_address_space() {
  return statm_bytes(5).value_or(0);
}

std::int64_t address_space_left() {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kMost;
  const std::optional<std::int64_t> used = statm_bytes(0);
  if (!used) return kMost;
  const auto most = static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, kMost));
  return std::max<std::int64_t>(0, most - *used);
}

void add_idle_address_space(std::int64_t bytes) {
  g_idle_address_space.fetch_add(bytes, std::memory_order_relaxed);
}

std::int64_t idle_address_space() {
  return g_idle_address_space.load(std::memory_order_relaxed);
}

}  // namespace brim
