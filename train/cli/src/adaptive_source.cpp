#include "adaptive_source.h"

#include <algorithm>
#include <utility>

#include "brim/cache/error.h"
#include "brim/dataloader/torch/device.h"

namespace brim::cli {

AdaptiveSource::AdaptiveSource(std::shared_ptr<const Dataset> dataset,
                               std::shared_ptr<const Transform> transform, LoaderOptions options,
                               torch::Device device)
    : dataset_(std::move(dataset)),
      transform_(std::move(transform)),
      options_(std::move(options)),
      device_(device) {
  options_.slot_memory = pinned_memory(device);
  build();
}

void AdaptiveSource::build() {
  loader_ = std::make_unique<Loader>(dataset_, transform_, options_);
  batches_ = make_batch_source(*loader_, device_);
}

void AdaptiveSource::start(std::int64_t epoch, std::int64_t first_batch) {
  epoch_ = epoch;
  position_ = first_batch;
  before_ = {};
  batches_->start(epoch, first_batch);
}

std::optional<TensorBatch> AdaptiveSource::next() {
  if (position_ >= loader_->batches_per_epoch()) return std::nullopt;
  auto batch = batches_->next();
  if (batch) ++position_;
  return batch;
}

bool AdaptiveSource::change(int workers, int prefetch_batches) {
  const LoaderOptions before = options_;
  options_.workers = workers;
  options_.prefetch_batches = prefetch_batches;
  bad_ = quarantine();
  before_ = statistics();
  // The old one gives its memory back before the new one takes its own.
  batches_.reset();
  loader_.reset();
  bool done = true;
  try {
    build();
  } catch (const Error&) {
    options_ = before;
    build();
    done = false;
  }
  if (epoch_ >= 0 && position_ < loader_->batches_per_epoch()) batches_->start(epoch_, position_);
  return done;
}

LoaderStatistics AdaptiveSource::statistics() const {
  LoaderStatistics sum = before_;
  add_statistics(loader_->statistics(), sum);
  return sum;
}

std::vector<QuarantineEntry> AdaptiveSource::quarantine() const {
  std::vector<QuarantineEntry> all = bad_;
  for (const QuarantineEntry& entry : loader_->quarantine()) {
    const bool known = std::any_of(bad_.begin(), bad_.end(), [&](const QuarantineEntry& old) {
      return old.index == entry.index;
    });
    if (!known) all.push_back(entry);
  }
  return all;
}

}  // namespace brim::cli
