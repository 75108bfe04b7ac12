#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "brim/dataloader/loader.h"
#include "brim/train/batch_source.h"

namespace brim::cli {

/// A training loader whose workers and prefetch can change in the middle of an epoch: a new one
/// takes over at the very next batch, which by Law 1 is the same batch. One thread.
class AdaptiveSource final : public BatchSource {
 public:
  AdaptiveSource(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const Transform> transform,
                 LoaderOptions options, torch::Device device);
  std::int64_t batches_per_epoch() const override { return loader_->batches_per_epoch(); }
  void start(std::int64_t epoch, std::int64_t first_batch) override;
  std::optional<TensorBatch> next() override;
  double cache_hit_rate() const override { return batches_->cache_hit_rate(); }

  Loader& loader() { return *loader_; }
  /// Since the epoch's start, of all loaders that it had.
  LoaderStatistics statistics() const;
  /// From the next batch on. False, and unchanged, where the budget does not allow it.
  bool change(int workers, int prefetch_batches);
  /// Bad files of all loaders so far.
  std::vector<QuarantineEntry> quarantine() const;

 private:
  void build();

  std::shared_ptr<const Dataset> dataset_;
  std::shared_ptr<const Transform> transform_;
  LoaderOptions options_;
  torch::Device device_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<BatchSource> batches_;
  std::vector<QuarantineEntry> bad_;
  LoaderStatistics before_{};  ///< of this epoch's earlier loaders
  std::int64_t epoch_ = -1, position_ = 0;
};

}  // namespace brim::cli
