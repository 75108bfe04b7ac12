#include "brim/cache/process_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <limits>

namespace brim {
namespace {
std::atomic<std::int64_t> g_idle_address_space{0};
}  // namespace

std::int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::int64_t pages = 0, resident = 0;
  return in >> pages >> resident ? resident * ::sysconf(_SC_PAGESIZE) : 0;
}

std::int64_t private_address_space() {
  std::ifstream in("/proc/self/statm");
  std::int64_t pages = 0;  // size, resident, shared, text, lib, data
  for (int field = 0; field < 6; ++field) in >> pages;
  return in ? pages * ::sysconf(_SC_PAGESIZE) : 0;
}

std::int64_t address_space_left() {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kMost;
  std::ifstream in("/proc/self/statm");
  std::int64_t pages = 0;
  if (!(in >> pages)) return kMost;
  const auto most = static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, kMost));
  return std::max<std::int64_t>(0, most - pages * ::sysconf(_SC_PAGESIZE));
}

void add_idle_address_space(std::int64_t bytes) {
  g_idle_address_space.fetch_add(bytes, std::memory_order_relaxed);
}

std::int64_t idle_address_space() {
  return g_idle_address_space.load(std::memory_order_relaxed);
}

}  // namespace brim
