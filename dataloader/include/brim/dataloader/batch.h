#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "brim/dataloader/transform.h"

namespace brim {

/// One row of a batch's packed targets: image (index within the batch), class, cx, cy, w, h.
struct TargetRow {
  float image, class_id, cx, cy, width, height;
};
static_assert(sizeof(TargetRow) == 24);

/// Which sample a batch entry shows.
struct SampleInfo {
  std::int64_t index = 0;  ///< dataset index
  bool replaced = false;   ///< a bad file's place was taken by another sample
  /// Past the epoch's end: there so that every rank has as many samples, shown before already.
  bool padding = false;
  Placement placement{};
};

namespace detail {
struct Slot;
}

/// A finished batch: uint8 RGB pixels [size, height, width, 3] and packed targets in a slot of the
/// loader, given back when the Batch (and every tensor wrapped around it) is gone. Movable.
class Batch {
 public:
  Batch() = default;
  explicit Batch(std::shared_ptr<detail::Slot> slot) : slot_(std::move(slot)) {}
  explicit operator bool() const { return slot_ != nullptr; }

  std::int64_t size() const;
  int width() const;
  int height() const;
  std::span<std::uint8_t> pixels() const;           ///< size * height * width * 3
  std::span<TargetRow> targets() const;             ///< detection
  std::span<const std::int64_t> class_ids() const;  ///< classification, one per sample
  std::span<const SampleInfo> samples() const;
  std::int64_t number() const;  ///< of the batch within its epoch
  /// XXH3 over pixels, targets, class ids and sample indices: equal digests mean equal batches.
  std::uint64_t digest() const;
  /// The same of one sample, whatever batch or rank it came in.
  std::uint64_t sample_digest(std::int64_t place) const;
  const std::shared_ptr<detail::Slot>& slot() const { return slot_; }

 private:
  std::shared_ptr<detail::Slot> slot_;
};

}  // namespace brim
