#include "brim/autotune/training_probe.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "brim/dataloader/random.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/cpu_allocator.h"
#include "brim/train/memory_scope.h"
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

void evaluate_once(const ProbeSubject& subject, Trainer& trainer, const TensorBatch& batch) {
  Network& network = *subject.network;
  const TrainingProbeOptions& options = subject.options;
  std::optional<ModelEma::Scope> averages;
  if (options.train.ema.decay > 0) averages.emplace(trainer.ema());
  const EvaluationScope evaluation(network);
  NetworkOutput output;
  {
    const AutocastScope autocast(trainer.precision(), options.train.device);
    output = network.forward(normalize_images(batch.images));
  }
  if (trainer.precision() != Precision::Fp32) output = in_float(std::move(output));
  subject.objective->loss(output, batch);
}

constexpr double kTimedSeconds = 0.2;  // small steps are repeated for so long
constexpr int kMostTimed = 4;

/// The steps of one measurement, with the optimiser where it is said.
class ProbeSteps {
 public:
  ProbeSteps(const ProbeSubject& subject, std::int64_t batch)
      : device_(subject.options.train.device) {
    TrainOptions train = subject.options.train;
    train.batch_size = train.nominal_batch = batch;
    train.folder.clear();
    // Asked between the backward pass and the optimiser.
    train.schedule = [this, device = train.device](int, std::int64_t, std::int64_t) {
      constexpr std::int64_t kNever = std::int64_t{1} << 40;
      synchronize(device);
      optimizing_ = Clock::now();
      return StepPlan{{0.01, 0.01, 0.01}, 0.9, optimizes_ ? 1 : kNever};
    };
    trainer_ = std::make_unique<Trainer>(subject.network, subject.objective, train);
  }

  struct Seconds {
    double step = 0, optimizer = 0;
  };
  Seconds run(const TensorBatch& images, bool optimizes) {
    using FloatSeconds = std::chrono::duration<double>;
    optimizes_ = optimizes;
    const auto begin = Clock::now();
    const StepEvent event = trainer_->step(images);
    synchronize(device_);
    // The trainer survives what a measurement has to report.
    if (event.micro_batches > 1)
      TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory: the step had to be split");
    return {FloatSeconds(optimizing_ - begin).count(),
            FloatSeconds(Clock::now() - optimizing_).count()};
  }
  Trainer& trainer() { return *trainer_; }

 private:
  using Clock = std::chrono::steady_clock;
  torch::Device device_;
  bool optimizes_ = true;
  Clock::time_point optimizing_{};
  std::unique_ptr<Trainer> trainer_;
};

void run_probe(const ProbeSubject& subject, std::int64_t batch, Measurement& result) {
  const torch::Device device = subject.options.train.device;
  const auto images_of = [&](std::int64_t images) {
    return to_device(detail::worst_batch(*subject.network, subject.options, images), device);
  };
  ProbeSteps steps(subject, batch);
  const TensorBatch images = images_of(batch);
  steps.run(images_of(std::min<std::int64_t>(batch, 2)), true);
  steps.run(images, false);
  const ProbeSteps::Seconds last = steps.run(images, true);
  result.optimizer_seconds = last.optimizer;
  result.seconds_per_step = last.step;
  evaluate_once(subject, steps.trainer(), images);
  result.trace = take_allocation_trace();  // what follows depends on how fast the machine is
  double spent = last.step;
  for (int i = 1; i < kMostTimed && spent < kTimedSeconds; ++i) {
    const double again = steps.run(images, false).step;
    result.seconds_per_step = std::min(result.seconds_per_step, again);
    spent += again;
  }
}

}  // namespace

Measurement measure_training(const std::function<ProbeSubject()>& make, std::int64_t batch,
                             torch::Device device) {
  const TrainingScope given_back;
  try {
    return detail::measure_run(batch, device,
                               [&](Measurement& result) { run_probe(make(), batch, result); });
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
