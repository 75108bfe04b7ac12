#include "measure_steps.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "brim/cache/memory_budget.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/allocation_trace.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/surviving_step.h"

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

/// Peaks in this process's memory.
class HostMeter {
 public:
  HostMeter() : forgot_((reset_allocator_peaks(), forget_resident_peak())) { record_allocations(); }

  void failed(Measurement& result) {
    take_allocation_trace();  // ended early: good for nothing
    result.trace.clear();
  }

  void read(Measurement& result) const {
    if (AllocationTrace rest = take_allocation_trace(); !rest.empty())
      result.trace = std::move(rest);
    const AllocatorStatistics statistics = allocator_statistics();
    result.tensor_peak_bytes = statistics.peak_live;
    result.reserved_peak_bytes = statistics.peak_reserved;
    result.resident_peak_bytes = resident_peak();
    if (forgot_) return;
    // The old peak may be a larger one's: what is outside the pool now, and the pool's own peak.
    const std::int64_t outside = read_memory_limits().own_resident - statistics.reserved;
    result.resident_peak_bytes = std::min(
        result.resident_peak_bytes, std::max<std::int64_t>(0, outside) + statistics.peak_reserved);
  }

 private:
  bool forgot_;
};

/// Peaks in a GPU's memory.
class DeviceMeter {
 public:
  explicit DeviceMeter(torch::Device device) : device_(device), capacity_(device_capacity(device)) {
    empty_device_cache(device);
    reset_device_peaks(device);
    retries_ = device_use(device).retries;
  }

  void read(Measurement& result) const {
    synchronize(device_);
    const DeviceUse use = device_use(device_);
    result.tensor_peak_bytes = use.peak_live;
    result.reserved_peak_bytes = use.peak_reserved;
    // What libraries took beside the allocator (kernels loaded at first use, cuBLAS and cuDNN).
    const std::int64_t outside = capacity_ - device_memory(device_).free - use.reserved;
    result.resident_peak_bytes = use.peak_reserved + std::max<std::int64_t>(0, outside);
    result.byte_budget = capacity_;
    if (const std::int64_t limit = device_limit(device_); limit > 0)  // of what is reserved
      result.byte_budget = std::min(capacity_, limit + std::max<std::int64_t>(0, outside));
    if (result.outcome == Outcome::Fits && use.retries > retries_) {
      result.outcome = Outcome::OutOfMemory;
      result.detail = "memory is so tight that cached blocks had to be given back within a step";
    }
  }

 private:
  torch::Device device_;
  std::int64_t capacity_, retries_ = 0;
};

template <typename Meter>
Measurement measure_with(Meter meter, std::int64_t batch,
                         const std::function<void(Measurement&)>& run) {
  const auto start = Clock::now();
  Measurement result;
  result.batch = batch;
  result.outcome = Outcome::Fits;
  brim::detail::BackwardQueue backward_queue;
  try {
    run(result);
  } catch (const std::exception& error) {
    backward_queue.clear();
    if constexpr (std::is_same_v<Meter, HostMeter>) meter.failed(result);
    if (!is_out_of_memory(error)) throw;
    result.outcome = Outcome::OutOfMemory;
    result.detail = first_line(error.what());
  }
  meter.read(result);
  result.wall_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

}  // namespace

std::int64_t device_capacity(torch::Device device) {
  static std::mutex mutex;
  static std::map<int, std::int64_t> known;
  if (!device.is_cuda()) return 0;
  const std::lock_guard lock(mutex);
  const int index = with_index(device).index();
  const auto found = known.find(index);
  if (found != known.end()) return found->second;
  return known[index] = device_memory(device).free + device_use(device).reserved;
}

Measurement measure_run(std::int64_t batch, torch::Device device,
                        const std::function<void(Measurement&)>& run) {
  return device.is_cuda() ? measure_with(DeviceMeter(device), batch, run)
                          : measure_with(HostMeter(), batch, run);
}

Measurement measure_steps(std::int64_t batch, int steps, torch::Device device,
                          const std::function<void()>& step) {
  return measure_run(batch, device, [&](Measurement& result) {
    double fastest = std::numeric_limits<double>::infinity();
    for (int i = 0; i < std::max(2, steps); ++i) {
      const auto begin = Clock::now();
      step();
      synchronize(device);
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      if (i > 0) fastest = std::min(fastest, seconds);
    }
    result.seconds_per_step = fastest;
  });
}

}  // namespace brim::autotune::detail
