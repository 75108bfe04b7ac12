#include "ram_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace brim::detail {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLargePage = std::size_t{2} << 20;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLargestChunk = std::size_t{8} << 20;
constexpr std::size_t kSmallestChunk = std::size_t{64} << 10;
/// Chunks with room left, in which values of other sizes find their place.
constexpr std::size_t kMostOpen = 16;

constexpr std::size_t round_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}

/// About 64 chunks in a full store, so that what gives back is fine-grained enough.
std::size_t chunk_size(std::int64_t byte_limit, const MemoryBudget& budget) {
  std::int64_t expected = budget.limit();
  if (byte_limit > 0) expected = std::min(expected, byte_limit);
  return round_up(
      std::clamp(static_cast<std::size_t>(expected / 64), kSmallestChunk, kLargestChunk), kPage);
}

}  // namespace

RamChunk::RamChunk(std::byte* data, std::size_t size, Reservation reservation)
    : data_(data), size_(size), reservation_(std::move(reservation)) {}

RamChunk::~RamChunk() {
  ::munmap(data_, size_);
}

std::shared_ptr<RamChunk> RamChunk::make(std::size_t bytes, Reservation reservation) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  // All of a chunk is paid for: large pages make its first touch cheaper.
  if (bytes >= kLargePage) ::madvise(data, bytes, MADV_HUGEPAGE);
  return std::shared_ptr<RamChunk>(
      new RamChunk(static_cast<std::byte*>(data), bytes, std::move(reservation)));
}

RamArena::RamArena(std::int64_t byte_limit, std::shared_ptr<MemoryBudget> budget)
    : byte_limit_(byte_limit), chunk_bytes_(chunk_size(byte_limit, *budget)), budget_(budget) {}

bool RamArena::fits(std::int64_t bytes) const {
  return byte_limit_ <= 0 || chunk_total_ + index_total_ + bytes <= byte_limit_;
}

std::shared_ptr<RamChunk> RamArena::add_chunk(std::size_t size) {
  const auto bytes = static_cast<std::int64_t>(size);
  if (!fits(bytes)) return nullptr;
  Reservation reservation = budget_->try_reserve("ram cache", bytes);
  if (!reservation) return nullptr;
  std::shared_ptr<RamChunk> chunk = RamChunk::make(size, std::move(reservation));
  if (chunk == nullptr) return nullptr;
  chunks_.push_back(chunk);
  chunk_total_ += bytes;
  return chunk;
}

/// The open chunk that `size` bytes fill best; null where they fit in none.
std::shared_ptr<RamChunk> RamArena::find_open(std::size_t size) const {
  std::shared_ptr<RamChunk> best;
  for (const auto& chunk : open_) {
    if (chunk->room() < size || (best != nullptr && chunk->room() >= best->room())) continue;
    best = chunk;
  }
  return best;
}

/// A chunk that values of `size` bytes fill without a rest; near the limit a smaller one, down to
/// a single value.
std::shared_ptr<RamChunk> RamArena::add_chunk_for(std::size_t size) {
  for (std::size_t count = std::max<std::size_t>(1, chunk_bytes_ / size);; count /= 2) {
    if (count == 0) return nullptr;
    if (auto chunk = add_chunk(round_up(count * size, kPage))) {
      if (open_.size() == kMostOpen) {
        const auto fullest =
            std::min_element(open_.begin(), open_.end(),
                             [](const auto& a, const auto& b) { return a->room() < b->room(); });
        open_.erase(fullest);
      }
      open_.push_back(chunk);
      return chunk;
    }
  }
}

RamArena::Place RamArena::allocate(const CacheKey& key, std::size_t size) {
  const std::size_t rounded = round_up(std::max<std::size_t>(size, 1), kAlignment);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<RamChunk> chunk = find_open(rounded);
  if (chunk == nullptr) chunk = add_chunk_for(rounded);
  if (chunk == nullptr) return {};
  const Place place{chunk, chunk->used_};
  chunk->used_ += rounded;
  ++chunk->writers_;
  chunk->keys_.push_back(key);
  return place;
}

void RamArena::finish(const Place& place) {
  const std::lock_guard lock(mutex_);
  --place.chunk->writers_;
}

std::shared_ptr<RamChunk> RamArena::take(std::vector<CacheKey>& keys) {
  const std::lock_guard lock(mutex_);
  auto best = chunks_.end();
  for (auto at = chunks_.begin(); at != chunks_.end(); ++at) {
    if ((*at)->writers_ > 0) continue;
    const long own_uses = std::find(open_.begin(), open_.end(), *at) != open_.end() ? 2 : 1;
    // The index holds one use per key; more than that are readers' views.
    const bool unseen = at->use_count() <= own_uses + static_cast<long>((*at)->keys_.size());
    if (unseen || best == chunks_.end()) best = at;
  }
  if (best == chunks_.end()) return nullptr;
  std::shared_ptr<RamChunk> chunk = std::move(*best);
  chunks_.erase(best);
  std::erase(open_, chunk);
  chunk_total_ -= static_cast<std::int64_t>(chunk->size_);
  keys = std::move(chunk->keys_);
  return chunk;
}

bool RamArena::reserve_index(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!fits(bytes)) return false;
  Reservation reservation = budget_->try_reserve("ram cache", bytes);
  if (!reservation) return false;
  index_.push_back(std::move(reservation));
  index_total_ += bytes;
  return true;
}

std::int64_t RamArena::bytes() const {
  const std::lock_guard lock(mutex_);
  return chunk_total_ + index_total_;
}

}  // namespace brim::detail
