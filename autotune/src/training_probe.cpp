#include "brim/autotune/training_probe.h"

#include <optional>

#include "brim/dataloader/random.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/training_scope.h"
#include "measure_steps.h"
#include "worst_batch.h"

namespace brim::autotune {

TensorBatch detail::worst_batch(const Network& network, const TrainingProbeOptions& options,
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

namespace {

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
  try {
    TrainOptions train = options.train;
    train.batch_size = train.nominal_batch = batch;
    train.folder.clear();
    Trainer trainer(network, objective, train);
    const TensorBatch images = detail::worst_batch(*network, options, batch);
    const auto step = [&] {
      // The trainer survives what a measurement has to report.
      if (trainer.step(images).micro_batches > 1)
        TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory: the step had to be split");
    };
    return detail::measure_steps(batch, options.steps, step,
                                 [&] { evaluate_once(*network, trainer, options, images); });
  } catch (const std::exception& error) {
    // Nothing of the case itself is at fault here: the trainer refuses when not one image fits.
    Measurement failed;
    failed.batch = batch;
    failed.outcome = Outcome::OutOfMemory;
    failed.detail = error.what();
    failed.detail = failed.detail.substr(0, failed.detail.find('\n'));
    return failed;
  }
}

}  // namespace brim::autotune
