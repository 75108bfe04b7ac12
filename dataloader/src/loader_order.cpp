#include "loader_order.h"

#include <algorithm>
#include <utility>

namespace brim::detail {
namespace {

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b < 0 ? quotient - 1 : quotient;
}

}  // namespace

EpochOrder::EpochOrder(std::shared_ptr<const Sampler> sampler, const LoaderOptions& options)
    : sampler_(std::move(sampler)),
      seed_(options.seed),
      epoch_size_(sampler_->epoch_size()),
      whole_batches_(options.epoch_batches > 0),
      batch_size_(options.batch_size),
      rank_(options.rank),
      ranks_(options.ranks),
      lanes_(options.lanes),
      window_(options.window) {
  const std::int64_t global = batch_size_ * ranks_;
  const bool keep = options.last_batch == LastBatch::Keep;
  batches_ = keep ? (epoch_size_ + global - 1) / global : epoch_size_ / global;
  yielded_ = keep ? epoch_size_ : batches_ * global;
  if (whole_batches_) batches_ = options.epoch_batches;
}

std::int64_t EpochOrder::batch_samples(std::int64_t batch) const {
  if (whole_batches_) return batch_size_;
  const std::int64_t global = batch_size_ * ranks_;
  const std::int64_t left = std::min(yielded_ - batch * global, global);
  return (left + ranks_ - 1) / ranks_;
}

std::int64_t EpochOrder::samples() const {
  return batches_ == 0 ? 0 : (batches_ - 1) * batch_size_ + batch_samples(batches_ - 1);
}

std::int64_t EpochOrder::lane_length(std::int64_t lane) const {
  // A lane that a tiny epoch leaves empty has one sample, wrapped like padding.
  return std::max<std::int64_t>(1, (yielded_ - lane + lanes_ - 1) / lanes_);
}

std::int64_t EpochOrder::last_of_lane(std::int64_t lane) const {
  return lane < yielded_ ? yielded_ - 1 - (yielded_ - 1 - lane) % lanes_ : lane;
}

Place EpochOrder::place(std::int64_t epoch, std::int64_t batch, std::int64_t entry) const {
  Place at;
  at.position = (batch * batch_size_ + entry) * ranks_ + rank_;
  at.lane = at.position % lanes_;
  at.padding = at.position >= yielded_;
  if (at.padding) at.position = last_of_lane(at.lane);
  at.sequence = epoch * lane_length(at.lane) + at.position / lanes_;
  return at;
}

std::int64_t EpochOrder::index(std::int64_t epoch, const Place& place) const {
  return sampler_->at(epoch, place.position % epoch_size_);
}

std::int64_t EpochOrder::index_in_lane(std::int64_t lane, std::int64_t sequence) const {
  const std::int64_t length = lane_length(lane);
  const std::int64_t epoch = floor_div(sequence, length);
  const std::int64_t position = (sequence - epoch * length) * lanes_ + lane;
  return sampler_->at(epoch, position % epoch_size_);
}

std::int64_t EpochOrder::first_sequence(std::int64_t epoch, std::int64_t batch,
                                        std::int64_t lane) const {
  const std::int64_t begin = std::min(batch * batch_size_ * ranks_, yielded_);
  const std::int64_t within = std::max<std::int64_t>(0, (begin - lane + lanes_ - 1) / lanes_);
  const std::int64_t length = lane_length(lane);
  return epoch * length + std::min(within, length);
}

std::uint64_t EpochOrder::key(std::int64_t epoch, std::int64_t position) const {
  return mix64(mix64(mix64(seed_), static_cast<std::uint64_t>(epoch)),
               static_cast<std::uint64_t>(position));
}

RecordedDraw::RecordedDraw(const EpochOrder& order, Partners partners, std::int64_t epoch,
                           const Place& place, std::uint64_t key)
    : order_(order),
      partners_(partners),
      epoch_(epoch),
      place_(place),
      generator_(key, Purpose::Partners) {}

std::int64_t RecordedDraw::draw() {
  if (partners_ == Partners::Uniform) {
    const auto size = static_cast<std::uint64_t>(order_.sampler().epoch_size());
    return order_.sampler().at(epoch_, static_cast<std::int64_t>(generator_.below(size)));
  }
  const auto reach = static_cast<std::uint64_t>(std::max(order_.window() - 1, 1));
  const std::int64_t back = 1 + static_cast<std::int64_t>(generator_.below(reach));
  const std::int64_t sequence = place_.sequence - back;
  const std::int64_t index = order_.index_in_lane(place_.lane, sequence);
  if (count_ < static_cast<int>(indices_.size())) {
    indices_[static_cast<std::size_t>(count_)] = index;
    sequences_[static_cast<std::size_t>(count_)] = sequence;
    ++count_;
  }
  return index;
}

bool RecordedDraw::find(std::int64_t index, std::int64_t& sequence) const {
  for (std::size_t i = 0; i < static_cast<std::size_t>(count_); ++i) {
    if (indices_[i] != index) continue;
    sequence = sequences_[i];
    return true;
  }
  return false;
}

}  // namespace brim::detail
