#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "brim/cache/memory_budget.h"
#include "brim/dataloader/batch.h"

namespace brim::detail {

/// Gives memory back to where it came from.
struct FreePages {
  static constexpr std::size_t kAlignment = 4096;
  std::pmr::memory_resource* memory = nullptr;
  std::size_t bytes = 0;
  void operator()(std::uint8_t* data) const { memory->deallocate(data, bytes, kAlignment); }
};

/// Bytes whose address is a multiple of a page, as pinning and direct copies want them.
class PageBuffer {
 public:
  PageBuffer() = default;
  PageBuffer(std::size_t bytes, std::pmr::memory_resource& memory)
      : data_(static_cast<std::uint8_t*>(memory.allocate(bytes, FreePages::kAlignment)),
              FreePages{&memory, bytes}) {}
  std::uint8_t* get() const { return data_.get(); }

 private:
  std::unique_ptr<std::uint8_t, FreePages> data_;
};

/// Memory of one batch, reused from batch to batch. Everything in it keeps its capacity.
struct Slot {
  std::size_t id = 0;
  std::int64_t number = 0;
  std::int64_t size = 0;
  int width = 0, height = 0;
  bool complete = false;
  std::int64_t unfinished = 0;  ///< samples still being made
  PageBuffer pixels;
  std::vector<TargetRow> targets;
  std::vector<std::int64_t> class_ids;
  std::vector<SampleInfo> samples;
  std::vector<SampleOut> outs;  ///< per sample, before its targets are packed
  /// The shared_ptr of a delivered batch keeps its counters here, so that delivering allocates
  /// nothing.
  alignas(std::max_align_t) std::byte control_block[160];

  std::size_t sample_bytes() const {
    return std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  }
  /// Gathers the targets of all samples into one table and fills class ids.
  void pack(Task task);
};

/// Whoever fills slots wants to know when one comes back.
class SlotObserver {
 public:
  virtual void on_slot_freed() = 0;  ///< called with SlotHome::mutex held

 protected:
  ~SlotObserver() = default;
};

/// Owns the slots of a loader and outlives it while batches are still held elsewhere. Its mutex
/// also guards the engine's state, so a slot that comes back can never meet a half-dead engine.
struct SlotHome : std::enable_shared_from_this<SlotHome> {
  std::mutex mutex;
  std::shared_ptr<std::pmr::memory_resource> memory;  ///< of the pixels; null: the process's own
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<Slot*> free;
  SlotObserver* observer = nullptr;
  Reservation reservation;

  /// Adds a slot for `batch_size` samples to the free ones (mutex held, or not yet shared).
  void add_slot(std::int64_t batch_size, int width, int height);
  void give_back(Slot* slot);
  /// The handle whose last copy gives `slot` back.
  std::shared_ptr<Slot> handle(Slot* slot);
};

/// Places a shared_ptr's control block inside the slot and returns the slot when that is released.
template <typename T>
struct InSlotAllocator {
  using value_type = T;
  std::shared_ptr<SlotHome> home;
  Slot* slot;

  InSlotAllocator(std::shared_ptr<SlotHome> owner, Slot* where)
      : home(std::move(owner)), slot(where) {}
  template <typename U>
  InSlotAllocator(const InSlotAllocator<U>& other) : home(other.home), slot(other.slot) {}
  T* allocate(std::size_t count) {
    static_assert(sizeof(T) <= sizeof(Slot::control_block));
    if (count != 1) throw std::logic_error("a slot has room for one control block");
    return reinterpret_cast<T*>(slot->control_block);
  }
  void deallocate(T*, std::size_t) { home->give_back(slot); }
  template <typename U>
  bool operator==(const InSlotAllocator<U>& other) const {
    return slot == other.slot;
  }
};

}  // namespace brim::detail
