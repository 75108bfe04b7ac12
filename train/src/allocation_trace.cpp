#include "brim/train/allocation_trace.h"

#include <algorithm>
#include <new>

#include "page_heap.h"

namespace brim {
namespace {

/// Address space that holds `trace` even if nothing given back were used again, within reason.
std::size_t address_space(const AllocationTrace& trace) {
  constexpr std::size_t kMost = std::size_t{1} << 40;
  std::size_t sum = std::size_t{64} << 20;
  for (const std::int64_t event : trace)
    if (event > 0) sum += detail::PageHeap::block_bytes(static_cast<std::size_t>(event));
  return std::min(sum, kMost);
}

}  // namespace

ReplayedPeaks replay_allocations(const AllocationTrace& trace) {
  ReplayedPeaks peaks;
  try {
    detail::PageHeap heap(address_space(trace), detail::PageHeap::Pages::Small);
    std::vector<void*> blocks;
    for (const std::int64_t event : trace) {
      if (event <= 0) {
        heap.free(blocks.at(static_cast<std::size_t>(-event - 1)));
        continue;
      }
      void* block = heap.allocate(static_cast<std::size_t>(event), SIZE_MAX);
      if (block == nullptr) return {};
      blocks.push_back(block);
      peaks.live = std::max(peaks.live, static_cast<std::int64_t>(heap.live_bytes()));
      peaks.reserved = std::max(peaks.reserved, static_cast<std::int64_t>(heap.committed_bytes()));
    }
  } catch (const std::bad_alloc&) {
    return {};
  }
  return peaks;
}

}  // namespace brim
