#pragma once

#include <cstdint>
#include <vector>

namespace brim {

/// What brim's CPU allocator was asked for, in order: a positive number is an allocation of so many
/// bytes, -(n + 1) gives the n-th allocation of the trace back.
using AllocationTrace = std::vector<std::int64_t>;

/// Records every allocation of the installed allocator from now on. What lives already is no part
/// of the trace. Of one thread at a time, like take_allocation_trace.
void record_allocations();
/// Ends the recording and returns it; empty where none was begun.
AllocationTrace take_allocation_trace();

/// Most bytes that an empty pool has live and reserved while it serves `trace`, fragmentation
/// included: the trace is played on a heap like the allocator's own, whose memory is never touched.
/// Zeros when the address space for that cannot be had.
struct ReplayedPeaks {
  std::int64_t live = 0, reserved = 0;
};
ReplayedPeaks replay_allocations(const AllocationTrace& trace);

}  // namespace brim
