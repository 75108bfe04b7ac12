#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "brim/dataloader/loader_options.h"
#include "brim/dataloader/random.h"
#include "brim/dataloader/transform.h"

namespace brim::detail {

/// Where a sample stands: its position in the epoch's global order, the lane it belongs to and its
/// number in that lane, which runs on from epoch to epoch.
struct Place {
  std::int64_t position = 0;
  std::int64_t lane = 0;
  std::int64_t sequence = 0;
  bool padding = false;  ///< past the epoch's end: there so that every rank has as many samples
};

/// The order of one rank: which global positions make up its batches, and which samples stand in
/// the windows that partners come from. A pure function of the settings.
///
/// Rank r of R takes the positions p with p mod R = r; a batch is the next `batch_size` of them, so
/// the union over ranks depends on the global batch alone. With LastBatch::Keep the last global
/// batch is filled up to a multiple of R, and with LoaderOptions::epoch_batches every batch to its
/// full size, by the last sample of the lane again, which is decoded already. The window of a
/// position are the preceding positions of its lane (position mod lanes), running back into the
/// previous epochs' orders. Only samples that an epoch yields stand in windows.
class EpochOrder {
 public:
  EpochOrder(std::shared_ptr<const Sampler> sampler, const LoaderOptions& options);

  std::int64_t batches() const { return batches_; }
  std::int64_t samples() const;  ///< of this rank per epoch
  std::int64_t batch_samples(std::int64_t batch) const;
  Place place(std::int64_t epoch, std::int64_t batch, std::int64_t entry) const;
  std::int64_t index(std::int64_t epoch, const Place& place) const;
  std::int64_t index_in_lane(std::int64_t lane, std::int64_t sequence) const;
  /// Lane sequence of the first sample of `lane` at or after the start of (epoch, batch).
  std::int64_t first_sequence(std::int64_t epoch, std::int64_t batch, std::int64_t lane) const;
  std::uint64_t key(std::int64_t epoch, std::int64_t position) const;
  const Sampler& sampler() const { return *sampler_; }
  std::int64_t ranks() const { return ranks_; }
  std::int64_t lanes() const { return lanes_; }
  int window() const { return window_; }

 private:
  std::int64_t lane_length(std::int64_t lane) const;
  std::int64_t last_of_lane(std::int64_t lane) const;

  std::shared_ptr<const Sampler> sampler_;
  std::uint64_t seed_;
  std::int64_t epoch_size_, yielded_, batches_;
  bool whole_batches_;  ///< filled up to their full size
  std::int64_t batch_size_, rank_, ranks_, lanes_;
  int window_;
};

/// Partners drawn for one sample; remembers where in the lane each of them stands.
class RecordedDraw final : public PartnerDraw {
 public:
  RecordedDraw(const EpochOrder& order, Partners partners, std::int64_t epoch, const Place& place,
               std::uint64_t key);
  std::int64_t draw() override;
  /// Where in the lane dataset sample `index` was drawn from; false: not drawn from the window.
  bool find(std::int64_t index, std::int64_t& sequence) const;

 private:
  const EpochOrder& order_;
  Partners partners_;
  std::int64_t epoch_;
  const Place& place_;
  Generator generator_;
  int count_ = 0;
  std::array<std::int64_t, 2 * kMaxSources> indices_{}, sequences_{};
};

}  // namespace brim::detail
