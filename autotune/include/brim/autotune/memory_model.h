#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "brim/autotune/measurement.h"
#include "brim/train/allocation_trace.h"

namespace brim::autotune {

/// Resident peak of a training process as a function of its micro-batch.
///
/// Each allocation of a step is affine in the batch, their peak is not: its moment moves, and free
/// blocks are split and joined differently. So two measurements with allocation traces of the same
/// shape are joined event by event, and the trace for another batch is replayed on an empty heap.
/// What is outside the pool (libraries, oneDNN) is the largest remainder measured. Without such
/// traces it is a line through the resident peaks. Owned by whoever chooses; one thread.
class MemoryModel {
 public:
  /// Of the measurements that fit; there must be at least one.
  explicit MemoryModel(const std::vector<Measurement>& measured);

  /// Bytes at `batch` images, loader not included.
  double at(std::int64_t batch) const;
  /// Largest |predicted - measured| / measured of the measurements; 0 with a single one.
  double relative_error() const { return relative_error_; }
  /// True where predictions come from replayed traces.
  bool replays() const { return !events_.empty(); }
  /// What the pool has at most, at `batch` images; zeros without traces to replay.
  ReplayedPeaks replayed(std::int64_t batch) const;
  /// Straight line through the measurements, for people.
  const AffineFit& line() const { return line_; }

 private:
  struct Sizes {
    double constant = 0, slope = 0;
  };
  void join_traces(const std::vector<Measurement>& measured);

  AffineFit line_{};
  std::vector<Sizes> events_;
  double outside_ = 0, relative_error_ = 0;
  mutable std::map<std::int64_t, double> known_;
};

}  // namespace brim::autotune
