#include "brim/autotune/training_probe.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <new>
#include <optional>

#include "brim/dataloader/random.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/training_scope.h"

namespace brim::autotune {
namespace {

TensorBatch worst_batch(const Network& network, const TrainingProbeOptions& options,
                        std::int64_t images) {
  TensorBatch batch;
  const std::int64_t side = options.image_size;
  batch.images =
      torch::randint(0, 256, {images, side, side, 3}, torch::kByte).permute({0, 3, 1, 2});
  batch.samples.resize(static_cast<std::size_t>(images));
  const auto classes = static_cast<std::uint64_t>(network.classes());
  Generator generator(1, Purpose::User);
  if (network.task() == Task::Classify) {
    batch.class_ids = torch::randint(0, network.classes(), {images}, torch::kLong);
    return batch;
  }
  batch.targets = torch::empty({images * options.boxes_per_image, 6});
  auto rows = batch.targets.accessor<float, 2>();
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    rows[i][0] = static_cast<float>(i / options.boxes_per_image);
    rows[i][1] = static_cast<float>(generator.below(classes));
    for (int k = 2; k < 4; ++k) rows[i][k] = static_cast<float>(generator.uniform(0.2, 0.8));
    for (int k = 4; k < 6; ++k) rows[i][k] = static_cast<float>(generator.uniform(0.03, 0.4));
  }
  return batch;
}

std::int64_t resident_peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

void evaluate_once(Network& network, Trainer& trainer, const TrainingProbeOptions& options,
                   const TensorBatch& batch) {
  std::optional<ModelEma::Scope> averages;
  if (options.train.ema.decay > 0) averages.emplace(trainer.ema());
  const EvaluationScope evaluation(network);
  const AutocastScope autocast(trainer.precision(), options.train.device);
  network.forward(normalize_images(batch.images.to(options.train.device)));
}

}  // namespace

Measurement measure_training(const std::shared_ptr<Network>& network,
                             const std::shared_ptr<Objective>& objective,
                             const TrainingProbeOptions& options, std::int64_t batch) {
  Measurement result;
  result.batch = batch;
  result.outcome = Outcome::Fits;
  reset_allocator_peaks();
  try {
    TrainOptions train = options.train;
    train.batch_size = train.nominal_batch = batch;
    train.folder.clear();
    Trainer trainer(network, objective, train);
    const TensorBatch images = worst_batch(*network, options, batch);
    result.seconds_per_step = std::numeric_limits<double>::infinity();
    for (int i = 0; i < std::max(2, options.steps); ++i) {
      const StepEvent step = trainer.step(images);
      if (step.micro_batches > 1) {
        result.outcome = Outcome::OutOfMemory;
        result.detail = "the step had to be split";
        break;
      }
      if (i > 0) result.seconds_per_step = std::min(result.seconds_per_step, step.step_seconds);
    }
    if (result.outcome == Outcome::Fits) evaluate_once(*network, trainer, options, images);
  } catch (const std::bad_alloc&) {
    result.outcome = Outcome::OutOfMemory;
    result.detail = "out of memory";
  } catch (const Error& error) {  // the trainer refuses when not even one image fits
    result.outcome = Outcome::OutOfMemory;
    result.detail = error.message();
  } catch (const c10::Error& error) {
    result.outcome = Outcome::OutOfMemory;
    result.detail = error.what_without_backtrace();
  }
  if (result.outcome != Outcome::Fits) result.seconds_per_step = 0;
  const AllocatorStatistics statistics = allocator_statistics();
  result.tensor_peak_bytes = statistics.peak_live;
  result.reserved_peak_bytes = statistics.peak_reserved;
  result.resident_peak_bytes = resident_peak_bytes();
  return result;
}

}  // namespace brim::autotune
