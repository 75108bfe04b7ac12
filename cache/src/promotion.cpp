#include "promotion.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace brim::detail {
namespace {

/// Values that are watched; of larger sets one in two, four, ...
constexpr std::size_t kMostWatched = std::size_t{1} << 16;
/// Part of the watched values that must have come round again.
constexpr std::int64_t kAgain = 4;
/// Below this part of the room no choice is needed.
constexpr std::int64_t kSmall = 8;

}  // namespace

bool Promotion::look(const CacheKey& key, std::size_t bytes, double per_byte) {
  if (!is_decided()) return watch(key, bytes, per_byte);
  const std::int64_t looks = looks_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (looks % round_ == 0) price_.store(price_.load() / 2, std::memory_order_relaxed);
  return per_byte >= price() || price() == 0;
}

bool Promotion::watch(const CacheKey& key, std::size_t bytes, double per_byte) {
  const std::lock_guard lock(mutex_);
  if (is_decided()) return false;
  if (is_sampled(key)) {
    if (Seen* seen = seen_.find(key); seen != nullptr) {
      again_ += seen->again ? 0 : 1;
      seen->again = true;
      if (per_byte != kUnknown) seen->price = per_byte;
    } else {
      seen_.insert(key, {.price = per_byte, .bytes = static_cast<std::uint32_t>(bytes)});
      seen_bytes_ += static_cast<std::int64_t>(bytes);
    }
    if (seen_.size() > kMostWatched) thin_out();
  }
  const std::int64_t all = seen_bytes_ * static_cast<std::int64_t>(mask_ + 1);
  const bool small = all <= room_() / kSmall;
  if (again_ * kAgain >= static_cast<std::int64_t>(seen_.size())) decide();
  return small;
}

void Promotion::thin_out() {
  mask_ = mask_ << 1 | 1;
  KeyMap<Seen> kept;
  again_ = seen_bytes_ = 0;
  seen_.for_each([&](const CacheKey& key, const Seen& seen) {
    if (!is_sampled(key)) return;
    kept.insert(key, seen);
    again_ += seen.again ? 1 : 0;
    seen_bytes_ += seen.bytes;
  });
  seen_ = std::move(kept);
}

/// Under mutex_.
void Promotion::decide() {
  std::vector<std::pair<double, std::int64_t>> priced;
  std::int64_t priced_bytes = 0;
  seen_.for_each([&](const CacheKey&, const Seen& seen) {
    if (seen.price == kUnknown) return;
    priced.emplace_back(seen.price, seen.bytes);
    priced_bytes += seen.bytes;
  });
  const auto scale = static_cast<double>(mask_ + 1);
  const double all = static_cast<double>(seen_bytes_) * scale;
  const auto room = static_cast<double>(room_());
  if (all > room && priced_bytes > 0) {
    // Those that were priced stand for the others.
    const double left = room / all * static_cast<double>(priced_bytes);
    std::sort(priced.begin(), priced.end(), std::greater<>());
    double taken = 0;
    for (const auto& [per_byte, bytes] : priced) {
      taken += static_cast<double>(bytes);
      if (taken > left) break;
      price_.store(per_byte, std::memory_order_relaxed);
    }
    if (price() == 0) price_.store(priced.front().first, std::memory_order_relaxed);
  } else if (all > room) {
    return;  // nothing was read yet
  }
  round_ = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(static_cast<double>(seen_.size()) * scale));
  seen_ = {};
  decided_.store(true, std::memory_order_release);
}

}  // namespace brim::detail
