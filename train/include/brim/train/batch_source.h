#pragma once

#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <utility>

#include "brim/dataloader/torch/tensor_batch.h"

namespace brim {

/// Batches of an epoch, in order, from any position. What Trainer and evaluate consume.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual std::int64_t batches_per_epoch() const = 0;
  virtual void start(std::int64_t epoch, std::int64_t first_batch) = 0;
  virtual std::optional<TensorBatch> next() = 0;
  /// Share of this epoch's images that a cache had; negative: there is none.
  virtual double cache_hit_rate() const { return -1; }
};

/// A loader whose batches arrive on `device` one ahead. `loader` must outlive the source.
std::unique_ptr<BatchSource> make_batch_source(Loader& loader, torch::Device device);

namespace detail {
template <typename Range>
class RangeSource final : public BatchSource {
 public:
  explicit RangeSource(Range& range) : range_(range) {}
  std::int64_t batches_per_epoch() const override {
    return static_cast<std::int64_t>(std::ranges::distance(range_));
  }
  void start(std::int64_t /*epoch*/, std::int64_t first_batch) override {
    position_ =
        std::ranges::next(std::ranges::begin(range_), first_batch, std::ranges::end(range_));
  }
  std::optional<TensorBatch> next() override {
    if (position_ == std::ranges::end(range_)) return std::nullopt;
    return *position_++;
  }

 private:
  Range& range_;
  std::ranges::iterator_t<Range> position_{};
};
}  // namespace detail

/// Any forward range of TensorBatch, the same batches every epoch; it must outlive the source.
template <std::ranges::forward_range Range>
std::unique_ptr<BatchSource> make_batch_source(Range& batches) {
  return std::make_unique<detail::RangeSource<Range>>(batches);
}

}  // namespace brim
