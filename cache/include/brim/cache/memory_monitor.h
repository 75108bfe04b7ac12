#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "brim/cache/memory_budget.h"

namespace brim {

struct MemoryMonitorOptions {
  int interval_ms = 100;       ///< between two samples of the process
  int reread_ms = 1000;        ///< between two readings of the machine's limits
  double ask_above = 0.95;     ///< share of the limit at which memory is asked back
  double ask_down_to = 0.90;   ///< share of the limit that is aimed at
  double ask_on_stall = 0.02;  ///< share of the limit asked back each time processes stall
  /// Pressure stall file to watch (its trigger must be writable); "auto": of the process's control
  /// group, else of the machine; empty: none.
  std::string stall_file = "auto";
  /// Bytes that are held against the limit; empty: what of this process is resident.
  std::function<std::int64_t()> measure{};
};

struct MemoryMonitorStatus {
  std::int64_t samples = 0;
  std::int64_t resident = 0;       ///< last sample, bytes
  std::int64_t peak_resident = 0;  ///< highest sample, bytes
  std::int64_t limit = 0;          ///< the budget's limit at the last sample
  std::int64_t times_asked = 0;
  std::int64_t stalls = 0;  ///< times that waiting for memory was reported by the kernel
  bool watches_stalls = false;
  std::int64_t bytes_given_back = 0;
};

/// Samples the process from a thread of its own and asks the budget's holders, in their order, to
/// give memory back before the limit is reached; follows limits that change while running. It sees
/// what the ledger cannot: libraries, fragmentation, other processes of the same container, and
/// enters what was never reserved (MemoryBudget::cover). Where
/// the kernel lets it, it is also woken when processes wait for memory (pressure stall
/// information). Owned by whoever runs the program; the thread ends with the object.
///
///   MemoryMonitor monitor(budget);
///   ...
///   log(monitor.status().peak_resident);
class MemoryMonitor {
 public:
  explicit MemoryMonitor(std::shared_ptr<MemoryBudget> budget, MemoryMonitorOptions options = {});
  ~MemoryMonitor();
  MemoryMonitor(const MemoryMonitor&) = delete;
  MemoryMonitor& operator=(const MemoryMonitor&) = delete;

  MemoryMonitorStatus status() const;
  /// Takes one sample now, on the calling thread, and acts on it.
  void sample();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Anonymous and shared-memory bytes of this process that are resident now.
std::int64_t own_private_bytes();

}  // namespace brim
