#include "measure_steps.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "brim/cache/memory_budget.h"
#include "brim/train/allocation_trace.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"

namespace brim::autotune::detail {
namespace {

using Clock = std::chrono::steady_clock;

/// Makes the kernel forget the peak of resident memory, where it lets a process do so (Linux 4.0).
bool forget_resident_peak() {
  const int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = write(fd, "5", 1) == 1;
  close(fd);
  return done;
}

/// Highest resident bytes since forget_resident_peak(), else since the process began.
std::int64_t resident_peak() {
  std::int64_t kilobytes = 0;
  if (std::FILE* file = std::fopen("/proc/self/status", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr) {
      long long value = 0;
      if (std::sscanf(line, "VmHWM: %lld kB", &value) == 1) kilobytes = value;
    }
    std::fclose(file);
  }
  if (kilobytes == 0) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    kilobytes = usage.ru_maxrss;
  }
  return kilobytes * 1024;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

Measurement measure_run(std::int64_t batch, const std::function<void(Measurement&)>& run) {
  const auto start = Clock::now();
  Measurement result;
  result.batch = batch;
  result.outcome = Outcome::Fits;
  reset_allocator_peaks();
  const bool forgot = forget_resident_peak();
  record_allocations();
  try {
    run(result);
  } catch (const std::exception& error) {
    take_allocation_trace();  // ended early: good for nothing
    result.trace.clear();
    if (!is_out_of_memory(error)) throw;
    result.outcome = Outcome::OutOfMemory;
    result.detail = first_line(error.what());
  }
  if (AllocationTrace rest = take_allocation_trace(); !rest.empty()) result.trace = std::move(rest);
  const AllocatorStatistics statistics = allocator_statistics();
  result.tensor_peak_bytes = statistics.peak_live;
  result.reserved_peak_bytes = statistics.peak_reserved;
  result.resident_peak_bytes = resident_peak();
  if (!forgot) {
    // The old peak may be a larger one's: what is outside the pool now, and the pool's own peak.
    const std::int64_t outside = read_memory_limits().own_resident - statistics.reserved;
    result.resident_peak_bytes = std::min(
        result.resident_peak_bytes, std::max<std::int64_t>(0, outside) + statistics.peak_reserved);
  }
  result.wall_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

Measurement measure_steps(std::int64_t batch, int steps, const std::function<void()>& step) {
  return measure_run(batch, [&](Measurement& result) {
    double fastest = std::numeric_limits<double>::infinity();
    for (int i = 0; i < std::max(2, steps); ++i) {
      const auto begin = Clock::now();
      step();
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      if (i > 0) fastest = std::min(fastest, seconds);
    }
    result.seconds_per_step = fastest;
  });
}

}  // namespace brim::autotune::detail
