#include "page_heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

#include "brim/cache/process_memory.h"

namespace brim::detail {
namespace {
constexpr std::size_t kHeader = PageHeap::kAlignment;
constexpr std::size_t kMinBlock = 2 * kHeader;
constexpr std::size_t kLeastReserve = std::size_t{16} << 20;
constexpr int kScan = 16;  // blocks of the exact bin that are looked at before a larger bin is cut

std::size_t round_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}
}  // namespace

struct PageHeap::Block {
  std::size_t size;  // header included
  Block* previous;   // in memory
  bool is_free;
  Block* next_free;
  Block* previous_free;
};

PageHeap::PageHeap(std::size_t virtual_bytes, Pages pages) {
  std::size_t want = round_up(std::max(virtual_bytes, kLeastReserve), kChunk);
  void* found = MAP_FAILED;
  for (; want >= kLeastReserve; want = round_up(want / 2, kChunk)) {
    mapping_bytes_ = want + kChunk;
    found = ::mmap(nullptr, mapping_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (found != MAP_FAILED || want == kLeastReserve) break;
  }
  if (found == MAP_FAILED) throw std::bad_alloc();
  mapping_ = reinterpret_cast<std::uintptr_t>(found);
  base_ = round_up(mapping_, kChunk);
  end_ = base_ + want;
  committed_.assign(want / kChunk, false);
  add_idle_address_space(static_cast<std::int64_t>(mapping_bytes_));
  // Only advice; it may be refused.
  ::madvise(reinterpret_cast<void*>(base_), want,
            pages == Pages::Huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  if (!commit(base_, base_ + kHeader, SIZE_MAX)) {
    unmap();
    throw std::bad_alloc();
  }
  auto* all = reinterpret_cast<Block*>(base_);
  *all = {want, nullptr, true, nullptr, nullptr};
  insert(all);
}

PageHeap::~PageHeap() {
  unmap();
}

void PageHeap::unmap() {
  ::munmap(reinterpret_cast<void*>(mapping_), mapping_bytes_);
  add_idle_address_space(static_cast<std::int64_t>(committed_bytes()) -
                         static_cast<std::int64_t>(mapping_bytes_));
}

std::size_t PageHeap::block_bytes(std::size_t bytes) {
  return std::max(kMinBlock, round_up(bytes, kAlignment) + kHeader);
}

bool PageHeap::owns(const void* pointer) const {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  return address >= base_ && address < end_;
}

PageHeap::Block* PageHeap::next(const Block* block) const {
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(block) + block->size;
  return address < end_ ? reinterpret_cast<Block*>(address) : nullptr;
}

/// First level: power of two; second: 32 equal parts of it (3% steps).
PageHeap::Bin PageHeap::bin_of(std::size_t size) {
  const int log = std::bit_width(size) - 1;
  return {log, static_cast<int>((size >> (log - kSecondBits)) & (kSecond - 1))};
}

void PageHeap::insert(Block* block) {
  const Bin bin = bin_of(block->size);
  Block*& head = bins_[bin.first][bin.second];
  block->is_free = true;
  block->previous_free = nullptr;
  block->next_free = head;
  if (head != nullptr) head->previous_free = block;
  head = block;
  first_map_ |= std::uint64_t{1} << bin.first;
  second_map_[bin.first] |= std::uint32_t{1} << bin.second;
}

void PageHeap::remove(Block* block) {
  const Bin bin = bin_of(block->size);
  if (block->next_free != nullptr) block->next_free->previous_free = block->previous_free;
  if (block->previous_free != nullptr) {
    block->previous_free->next_free = block->next_free;
  } else {
    bins_[bin.first][bin.second] = block->next_free;
    if (block->next_free == nullptr) {
      second_map_[bin.first] &= ~(std::uint32_t{1} << bin.second);
      if (second_map_[bin.first] == 0) first_map_ &= ~(std::uint64_t{1} << bin.first);
    }
  }
  block->is_free = false;
}

PageHeap::Block* PageHeap::find(std::size_t size) {
  Bin bin = bin_of(size);
  Block* best = nullptr;
  Block* block = bins_[bin.first][bin.second];
  for (int looked = 0; block != nullptr && looked < kScan; block = block->next_free, ++looked) {
    if (block->size >= size && (best == nullptr || block->size < best->size)) best = block;
  }
  if (best != nullptr) return best;
  // Any block of a larger bin fits.
  std::uint32_t second = bin.second + 1 < kSecond
                             ? second_map_[bin.first] & (~std::uint32_t{0} << (bin.second + 1))
                             : 0;
  if (second == 0) {
    const std::uint64_t first = first_map_ & (~std::uint64_t{0} << (bin.first + 1));
    if (first == 0) return nullptr;
    bin.first = std::countr_zero(first);
    second = second_map_[bin.first];
  }
  return bins_[bin.first][std::countr_zero(second)];
}

std::size_t PageHeap::uncommitted(std::size_t first, std::size_t last) const {
  return static_cast<std::size_t>(
      std::count(committed_.begin() + static_cast<std::ptrdiff_t>(first),
                 committed_.begin() + static_cast<std::ptrdiff_t>(last) + 1, false));
}

bool PageHeap::commit(std::uintptr_t begin, std::uintptr_t end, std::size_t limit) {
  const std::size_t first = (begin - base_) / kChunk;
  const std::size_t last = (end - 1 - base_) / kChunk;
  const std::size_t need = uncommitted(first, last);
  if (need == 0) return true;
  const std::size_t after = (committed_chunks_ + need) * kChunk;
  if (after > limit) {
    lack_ = Lack::Limit;
    missing_ = after - limit;
    return false;
  }
  for (std::size_t chunk = first; chunk <= last; ++chunk) {
    if (committed_[chunk]) continue;
    std::size_t stop = chunk;
    while (stop <= last && !committed_[stop]) ++stop;
    if (::mprotect(reinterpret_cast<void*>(base_ + chunk * kChunk), (stop - chunk) * kChunk,
                   PROT_READ | PROT_WRITE) != 0) {
      lack_ = Lack::System;
      missing_ = need * kChunk;
      return false;
    }
    std::fill(committed_.begin() + static_cast<std::ptrdiff_t>(chunk),
              committed_.begin() + static_cast<std::ptrdiff_t>(stop), true);
    committed_chunks_ += stop - chunk;
    add_idle_address_space(-static_cast<std::int64_t>((stop - chunk) * kChunk));
    chunk = stop;
  }
  return true;
}

void* PageHeap::allocate(std::size_t bytes, std::size_t commit_limit) {
  lack_ = Lack::Nothing;
  missing_ = 0;
  if (bytes > end_ - base_) {
    lack_ = Lack::AddressSpace;
    missing_ = bytes;
    return nullptr;
  }
  const std::size_t size = block_bytes(bytes);
  Block* block = find(size);
  if (block == nullptr) {
    lack_ = Lack::AddressSpace;
    missing_ = size;
    return nullptr;
  }
  remove(block);
  const bool split = block->size >= size + kMinBlock;
  const auto begin = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t end = begin + (split ? size + kHeader : block->size);
  if (!commit(begin, end, commit_limit) &&
      (lack_ != Lack::Limit || release(missing_) == 0 || !commit(begin, end, commit_limit))) {
    insert(block);
    return nullptr;
  }
  lack_ = Lack::Nothing;
  if (split) {
    auto* rest = reinterpret_cast<Block*>(begin + size);
    *rest = {block->size - size, block, true, nullptr, nullptr};
    block->size = size;
    if (Block* after = next(rest); after != nullptr) after->previous = rest;
    insert(rest);
  }
  live_bytes_ += block->size;
  ++live_blocks_;
  return reinterpret_cast<std::byte*>(block) + kHeader;
}

void PageHeap::free(void* pointer) {
  auto* block = reinterpret_cast<Block*>(static_cast<std::byte*>(pointer) - kHeader);
  live_bytes_ -= block->size;
  --live_blocks_;
  if (Block* after = next(block); after != nullptr && after->is_free) {
    remove(after);
    block->size += after->size;
  }
  if (Block* before = block->previous; before != nullptr && before->is_free) {
    remove(before);
    before->size += block->size;
    block = before;
  }
  if (Block* after = next(block); after != nullptr) after->previous = block;
  insert(block);
}

std::size_t PageHeap::release_block(Block* block, std::size_t bytes) {
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(block) + kHeader;
  const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(block) + block->size;
  std::size_t first = (begin - base_ + kChunk - 1) / kChunk;
  const std::size_t stop = (end - base_) / kChunk;
  std::size_t given = 0;
  for (; first < stop && given < bytes; ++first) {
    if (!committed_[first]) continue;
    std::size_t last = first;
    while (last < stop && committed_[last] && given + (last - first) * kChunk < bytes) ++last;
    void* address = reinterpret_cast<void*>(base_ + first * kChunk);
    const std::size_t length = (last - first) * kChunk;
    ::madvise(address, length, MADV_DONTNEED);
    ::mprotect(address, length, PROT_NONE);
    std::fill(committed_.begin() + static_cast<std::ptrdiff_t>(first),
              committed_.begin() + static_cast<std::ptrdiff_t>(last), false);
    committed_chunks_ -= last - first;
    add_idle_address_space(static_cast<std::int64_t>(length));
    given += length;
    first = last;
  }
  return given;
}

std::size_t PageHeap::release(std::size_t bytes) {
  std::size_t given = 0;
  for (int first = kFirst - 1; first >= 0 && given < bytes; --first) {
    if (second_map_[first] == 0) continue;
    for (int second = kSecond - 1; second >= 0; --second) {
      for (Block* block = bins_[first][second]; block != nullptr && given < bytes;
           block = block->next_free) {
        given += release_block(block, bytes - given);
      }
    }
  }
  return given;
}

bool PageHeap::consistent() const {
  std::size_t live = 0, blocks = 0;
  const Block* before = nullptr;
  for (const Block* block = reinterpret_cast<const Block*>(base_); block != nullptr;
       before = block, block = next(block)) {
    if (block->previous != before || block->size < kMinBlock || block->size % kAlignment != 0)
      return false;
    if (block->is_free && before != nullptr && before->is_free) return false;
    if (!block->is_free) {
      live += block->size;
      ++blocks;
    }
  }
  const auto committed =
      static_cast<std::size_t>(std::count(committed_.begin(), committed_.end(), true));
  return live == live_bytes_ && blocks == live_blocks_ && committed == committed_chunks_;
}

}  // namespace brim::detail
