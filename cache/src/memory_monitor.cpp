#include "brim/cache/memory_monitor.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "brim/cache/process_memory.h"
#include "cgroup.h"
#include "stall_trigger.h"

namespace brim {

using Clock = std::chrono::steady_clock;

struct MemoryMonitor::Impl {
  std::shared_ptr<MemoryBudget> budget;
  MemoryMonitorOptions options;
  mutable std::mutex mutex;
  MemoryMonitorStatus status;
  std::mutex sampling;  ///< one sample at a time
  Clock::time_point next_reread = Clock::now();
  detail::StallTrigger trigger;
  std::thread thread;

  void run(MemoryMonitor& monitor) {
    while (true) {
      monitor.sample();
      const detail::StallTrigger::Woken woken = trigger.wait(options.interval_ms);
      if (woken == detail::StallTrigger::Woken::Stopped) return;
      if (woken == detail::StallTrigger::Woken::Stalled) on_stall();
    }
  }

  /// Processes wait for memory although this one is below its limit: some of what costs least.
  void on_stall() {
    const std::lock_guard one(sampling);
    budget->refresh();
    const std::int64_t given = budget->ask_back(
        static_cast<std::int64_t>(static_cast<double>(budget->limit()) * options.ask_on_stall));
    const std::lock_guard lock(mutex);
    ++status.stalls;
    ++status.times_asked;
    status.bytes_given_back += given;
  }
};

MemoryMonitor::MemoryMonitor(std::shared_ptr<MemoryBudget> budget, MemoryMonitorOptions options)
    : impl_(std::make_unique<Impl>()) {
  impl_->budget = std::move(budget);
  impl_->options = std::move(options);
  impl_->options.interval_ms = std::max(1, impl_->options.interval_ms);
  if (!impl_->options.measure) impl_->options.measure = resident_bytes;
  if (!impl_->options.stall_file.empty()) impl_->trigger.open(impl_->options.stall_file);
  impl_->status.watches_stalls = impl_->trigger.watches();
  impl_->thread = std::thread([this] { impl_->run(*this); });
}

MemoryMonitor::~MemoryMonitor() {
  impl_->trigger.stop();
  impl_->thread.join();
}

MemoryMonitorStatus MemoryMonitor::status() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->status;
}

void MemoryMonitor::sample() {
  const std::lock_guard one(impl_->sampling);
  if (Clock::now() >= impl_->next_reread) {
    impl_->budget->refresh();
    impl_->next_reread = Clock::now() + std::chrono::milliseconds(impl_->options.reread_ms);
  }
  const std::int64_t resident = impl_->budget->cover(impl_->options.measure);
  const std::int64_t limit = impl_->budget->limit();
  const std::int64_t promised = impl_->budget->reserved();
  std::int64_t ask = 0;
  const auto share = [limit](double part) {
    return static_cast<std::int64_t>(static_cast<double>(limit) * part);
  };
  if (resident > share(impl_->options.ask_above))
    ask = resident - share(impl_->options.ask_down_to);
  ask = std::max(ask, promised - limit);  // a limit that shrank below what was promised
  const std::int64_t given = ask > 0 ? impl_->budget->ask_back(ask) : 0;
  const std::lock_guard lock(impl_->mutex);
  MemoryMonitorStatus& status = impl_->status;
  ++status.samples;
  status.resident = resident;
  status.peak_resident = std::max(status.peak_resident, resident);
  status.limit = limit;
  status.times_asked += ask > 0 ? 1 : 0;
  status.bytes_given_back += given;
}

std::int64_t own_private_bytes() {
  const std::string status = detail::slurp("/proc/self/status").value_or("");
  return detail::field(status, "RssAnon").value_or(0) +
         detail::field(status, "RssShmem").value_or(0);
}

}  // namespace brim
