#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "brim/cache/key.h"

namespace brim::detail {

/// Open-addressing map from CacheKey (already a uniform hash) to a small value: one flat array,
/// linear probing, erase by backward shift, so that a lookup touches one or two cache lines and
/// the bytes it holds are known exactly. Not thread-safe: one per shard, under the shard's mutex.
template <class Value>
class KeyMap {
 public:
  Value* find(const CacheKey& key) {
    if (slots_.empty()) return nullptr;
    for (std::size_t i = home(key);; i = next(i)) {
      if (!slots_[i].used) return nullptr;
      if (slots_[i].key == key) return &slots_[i].value;
    }
  }
  const Value* find(const CacheKey& key) const { return const_cast<KeyMap*>(this)->find(key); }

  /// False, and nothing changed, when the key is there already.
  bool insert(const CacheKey& key, Value value) {
    if (find(key) != nullptr) return false;
    if (growth_bytes() > 0) grow();
    place(key, std::move(value));
    return true;
  }

  bool erase(const CacheKey& key) {
    if (slots_.empty()) return false;
    std::size_t hole = home(key);
    while (!(slots_[hole].used && slots_[hole].key == key)) {
      if (!slots_[hole].used) return false;
      hole = next(hole);
    }
    for (std::size_t i = next(hole); slots_[i].used; i = next(i)) {
      const std::size_t distance_to_home = (i - home(slots_[i].key)) & mask();
      const std::size_t distance_to_hole = (i - hole) & mask();
      if (distance_to_home < distance_to_hole) continue;
      slots_[hole] = std::move(slots_[i]);
      hole = i;
    }
    slots_[hole] = Slot{};
    --size_;
    return true;
  }

  template <class Function>
  void for_each(Function&& function) const {
    for (const Slot& slot : slots_)
      if (slot.used) function(slot.key, slot.value);
  }

  std::size_t size() const { return size_; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(slots_.size() * sizeof(Slot)); }
  /// Bytes that the next insert adds to bytes(); 0 while there is room.
  std::int64_t growth_bytes() const {
    if ((size_ + 1) * 8 <= slots_.size() * 7) return 0;
    return slots_.empty() ? kFirst * static_cast<std::int64_t>(sizeof(Slot)) : bytes();
  }

 private:
  struct Slot {
    CacheKey key{};
    Value value{};
    bool used = false;
  };
  static constexpr std::int64_t kFirst = 16;

  std::size_t mask() const { return slots_.size() - 1; }
  std::size_t next(std::size_t i) const { return (i + 1) & mask(); }
  /// Shards are chosen by the low bits of `low`; the place within one by `high`.
  std::size_t home(const CacheKey& key) const {
    return static_cast<std::size_t>(key.high) & mask();
  }

  void place(const CacheKey& key, Value value) {
    std::size_t i = home(key);
    while (slots_[i].used) i = next(i);
    slots_[i] = Slot{key, std::move(value), true};
    ++size_;
  }

  void grow() {
    std::vector<Slot> old(slots_.empty() ? kFirst : slots_.size() * 2);
    old.swap(slots_);
    size_ = 0;
    for (Slot& slot : old)
      if (slot.used) place(slot.key, std::move(slot.value));
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace brim::detail
