#include "brim/dataloader/batch.h"

#include <xxhash.h>

#include "batch_slot.h"

namespace brim {
namespace {

template <typename T>
std::uint64_t fold(std::span<T> values, std::uint64_t seed) {
  return XXH3_64bits_withSeed(values.data(), values.size_bytes(), seed);
}

}  // namespace

std::int64_t Batch::size() const {
  return slot_->size;
}

int Batch::width() const {
  return slot_->width;
}

int Batch::height() const {
  return slot_->height;
}

std::int64_t Batch::number() const {
  return slot_->number;
}

std::span<std::uint8_t> Batch::pixels() const {
  return {slot_->pixels.get(), static_cast<std::size_t>(slot_->size) * slot_->sample_bytes()};
}

std::span<TargetRow> Batch::targets() const {
  return slot_->targets;
}

std::span<const std::int64_t> Batch::class_ids() const {
  return slot_->class_ids;
}

std::span<const SampleInfo> Batch::samples() const {
  return {slot_->samples.data(), static_cast<std::size_t>(slot_->size)};
}

std::uint64_t Batch::digest() const {
  std::uint64_t digest = fold(pixels(), static_cast<std::uint64_t>(size()));
  digest = fold(targets(), digest);
  digest = fold(class_ids(), digest);
  for (const SampleInfo& sample : samples()) {
    digest = fold(std::span<const std::int64_t>(&sample.index, 1), digest);
  }
  return digest;
}

std::uint64_t Batch::sample_digest(std::int64_t place) const {
  const std::size_t bytes = slot_->sample_bytes();
  const auto at = static_cast<std::size_t>(place);
  std::uint64_t digest = fold(pixels().subspan(at * bytes, bytes), 0);
  for (const TargetRow& row : targets()) {
    if (row.image != static_cast<float>(place)) continue;
    digest = fold(std::span<const float>(&row.class_id, 5), digest);
  }
  if (!class_ids().empty()) digest = fold(class_ids().subspan(at, 1), digest);
  return fold(std::span<const std::int64_t>(&samples()[at].index, 1), digest);
}

}  // namespace brim
