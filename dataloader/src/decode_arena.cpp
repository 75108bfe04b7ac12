#include "decode_arena.h"

#include <algorithm>
#include <new>

namespace brim::detail {

namespace {
constexpr std::size_t kFirstBlock = std::size_t{256} << 10;
}

void* Arena::take(std::size_t bytes) noexcept {
  const std::size_t need = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (need < bytes) return nullptr;
  if (limit_ != 0 && (need > limit_ || used_ > limit_ - need)) return nullptr;
  if (static_cast<std::size_t>(end_ - next_) < need && !grow(need)) return nullptr;
  void* result = next_;
  next_ += need;
  used_ += need;
  return result;
}

bool Arena::grow(std::size_t bytes) noexcept {
  // A large request gets a block of its own size, so that a big image costs what it takes.
  const std::size_t usable = std::max(bytes, kFirstBlock);
  try {
    Block block{std::unique_ptr<std::byte[]>(new std::byte[usable + kAlignment]), usable};
    const auto address = reinterpret_cast<std::uintptr_t>(block.bytes.get());
    const std::size_t skip = (kAlignment - address % kAlignment) % kAlignment;
    std::byte* const start = block.bytes.get() + skip;
    blocks_.push_back(std::move(block));
    next_ = start;
    end_ = start + usable;
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void Arena::reset() noexcept {
  std::size_t total = 0;
  for (const Block& block : blocks_) total += block.size;
  if (blocks_.size() > 1 || total > kRetainedBytes) {
    blocks_.clear();
    next_ = end_ = nullptr;
    // Images of a set resemble each other: the next one finds one block of the right size.
    if (total <= kRetainedBytes) grow(total);
  }
  if (!blocks_.empty()) next_ = end_ - blocks_.front().size;
  used_ = 0;
}

}  // namespace brim::detail
