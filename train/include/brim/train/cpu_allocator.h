#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "brim/cache/memory_budget.h"

namespace brim {

struct CpuAllocatorOptions {
  std::int64_t byte_limit = 0;     ///< most bytes reserved at once; 0: no limit of its own
  std::int64_t virtual_bytes = 0;  ///< address space set aside; 0: four times the machine's memory
  /// Where given, reserved bytes are held from it under "tensors": caches are asked to give back
  /// before an allocation fails.
  std::shared_ptr<MemoryBudget> budget{};
};

/// Exact byte counts of the tensors of this process (block headers of 64 bytes included).
struct AllocatorStatistics {
  std::int64_t live = 0;           ///< in tensors now
  std::int64_t reserved = 0;       ///< held from the system now, multiples of 2 MiB
  std::int64_t peak_live = 0;      ///< since the start or reset_allocator_peaks()
  std::int64_t peak_reserved = 0;  ///< "
  std::int64_t allocations = 0;
  std::int64_t failures = 0;  ///< allocations answered with OutOfMemoryError
  std::int64_t byte_limit = 0;
  /// Most that can be reserved now: the limit, and what the budget has left; 0: no bound.
  std::int64_t ceiling = 0;
};

struct PhasePeak {
  std::int64_t live = 0, reserved = 0;
  std::int64_t entered = 0;
};

/// Replaces the system's malloc under LibTorch's CPU tensors by a pool that coalesces, counts,
/// keeps freed memory between steps and obeys a hard limit: beyond it an allocation throws
/// c10::OutOfMemoryError, after free memory was given back and the budget's holders were asked.
/// Tensors made earlier stay valid. Call once, before training; again only changes the options'
/// limit and budget. Not calling it leaves LibTorch as it is. Thread-safe afterwards.
///
///   install_cpu_allocator({.byte_limit = std::int64_t{4} << 30});
///   { AllocatorPhase phase("forward"); output = network->forward(images); }
///   allocator_phases().at("forward").live;   // peak bytes of the forward pass
void install_cpu_allocator(const CpuAllocatorOptions& options = {});
bool cpu_allocator_installed();

/// Zeros where the allocator is not installed.
AllocatorStatistics allocator_statistics();
void reset_allocator_peaks();
/// Changes the hard limit; 0: none. What is live already stays.
void set_allocator_limit(std::int64_t bytes);
/// Unmaps free memory; returns the bytes given back to the system.
std::int64_t release_cpu_memory();
/// For tests of what happens when memory runs out: the allocation after the next `index` ones fails
/// with c10::OutOfMemoryError, once; -1 takes that back.
void inject_allocation_failure(std::int64_t index);

/// Names what the process is doing, so that peaks are kept per phase. Phases nest; an inner one's
/// peak counts for the outer too. Of one thread (the trainer's).
class AllocatorPhase {
 public:
  explicit AllocatorPhase(const char* name);
  ~AllocatorPhase();
  AllocatorPhase(const AllocatorPhase&) = delete;
  AllocatorPhase& operator=(const AllocatorPhase&) = delete;
  std::int64_t peak_live() const;  ///< so far, of this phase

 private:
  const char* name_;
  std::int64_t outer_live_ = 0, outer_reserved_ = 0;
};
std::map<std::string, PhasePeak> allocator_phases();

}  // namespace brim
