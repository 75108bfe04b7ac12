#include "batch_slot.h"

namespace brim::detail {

void Slot::pack(Task task) {
  targets.clear();
  class_ids.clear();
  for (std::int64_t i = 0; i < size; ++i) {
    const SampleOut& out = outs[static_cast<std::size_t>(i)];
    samples[static_cast<std::size_t>(i)].placement = out.placement;
    if (task == Task::Classify) class_ids.push_back(out.class_id);
    for (const Target& t : out.targets) {
      targets.push_back({static_cast<float>(i), t.class_id, t.cx, t.cy, t.width, t.height});
    }
  }
}

void SlotHome::add_slot(std::int64_t batch_size, int width, int height) {
  const auto count = static_cast<std::size_t>(batch_size);
  auto slot = std::make_unique<Slot>();
  slot->id = slots.size();
  slot->width = width;
  slot->height = height;
  slot->pixels =
      PageBuffer(count * slot->sample_bytes(), memory ? *memory : *std::pmr::new_delete_resource());
  slot->targets.reserve(count * 64);
  slot->class_ids.reserve(count);
  slot->samples.resize(count);
  slot->outs.resize(count);
  for (SampleOut& out : slot->outs) out.targets.reserve(64);
  slots.push_back(std::move(slot));
  free.reserve(slots.size());
  free.push_back(slots.back().get());
}

void SlotHome::give_back(Slot* slot) {
  const std::lock_guard lock(mutex);
  free.push_back(slot);
  if (observer != nullptr) observer->on_slot_freed();
}

std::shared_ptr<Slot> SlotHome::handle(Slot* slot) {
  return {slot, [](Slot*) {}, InSlotAllocator<Slot>(shared_from_this(), slot)};
}

}  // namespace brim::detail
