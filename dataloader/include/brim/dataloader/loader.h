#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "brim/dataloader/batch.h"
#include "brim/dataloader/dataset.h"
#include "brim/dataloader/loader_options.h"
#include "brim/dataloader/statistics.h"
#include "brim/dataloader/transform.h"

namespace brim {

/// A bad file and what took its place.
struct QuarantineEntry {
  std::int64_t index = 0;
  std::string path;
  std::string reason;
  std::int64_t replacement = 0;
};

/// Appends `entries` to a file of bad files (LoaderOptions::quarantine_file) in the same columns,
/// but for those whose path stands there already.
void list_bad_files(const std::string& file, std::span<const QuarantineEntry> entries);

/// Batches of an epoch, in order, decoded and augmented ahead by worker threads. What it yields
/// depends on (dataset, transform, seed, epoch, sampler settings) alone (Law 1).
///
///   Loader loader(open_yolo("data.yaml"), make_detection_transform(640), {.batch_size = 16});
///   for (int epoch = 0; epoch < 3; ++epoch) {
///     loader.start(epoch);
///     while (std::optional<Batch> batch = loader.next()) use(batch->pixels(), batch->targets());
///   }
///
/// One consumer thread. `stop()` may be called from any thread and ends a waiting `next()`.
class Loader {
 public:
  /// Throws Error on settings that cannot work (a budget too small names the smallest that does).
  Loader(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const Transform> transform,
         const LoaderOptions& options = {});
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  std::int64_t batches_per_epoch() const;
  std::int64_t samples_per_epoch() const;  ///< of this rank
  /// Begins `epoch` at batch `first_batch`; whatever ran before is stopped. Where it was begun
  /// already and nothing was taken, what is made stays.
  void start(std::int64_t epoch, std::int64_t first_batch = 0);
  /// The next batch; empty at the epoch's end or after stop(). Throws what a worker threw, and
  /// Error when more than max_bad_fraction of the samples are bad.
  std::optional<Batch> next();
  /// Whether next() would return at once.
  bool ready() const;
  void stop();

  const LoaderPlan& plan() const;
  const Dataset& dataset() const;
  const Transform& transform() const;
  LoaderStatistics statistics() const;  ///< since the epoch's start
  std::vector<QuarantineEntry> quarantine() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brim
