#include "brim/cache/process_memory.h"

#include <unistd.h>

#include <atomic>
#include <fstream>

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

void add_idle_address_space(std::int64_t bytes) {
  g_idle_address_space.fetch_add(bytes, std::memory_order_relaxed);
}

std::int64_t idle_address_space() {
  return g_idle_address_space.load(std::memory_order_relaxed);
}

}  // namespace brim
