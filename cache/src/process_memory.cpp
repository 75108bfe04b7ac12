#include "brim/cache/process_memory.h"

#include <unistd.h>

#include <fstream>

namespace brim {

std::int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::int64_t pages = 0, resident = 0;
  return in >> pages >> resident ? resident * ::sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace brim
