#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "brim/train/ema.h"
#include "brim/train/layers.h"
#include "brim/train/surviving_step.h"
#include "brim/train/trainer.h"
#include "gradient_reducer.h"

namespace brim {

/// Below so many images per forward pass batch-norm statistics become poor.
inline constexpr std::int64_t kSmallMicroBatch = 16;

/// State of a training, split over trainer.cpp (epochs), trainer_step.cpp (one batch),
/// trainer_statistics.cpp (batch-norm statistics of the averages), trainer_ranks.cpp (what several
/// processes do together) and trainer_state.cpp (checkpoints).
struct Trainer::Impl {
  Impl(std::shared_ptr<Network> net, std::shared_ptr<Objective> goal, TrainOptions wishes);

  // trainer.cpp
  TrainResult fit(BatchSource& batches, const Evaluator& evaluator);
  bool run_epoch(BatchSource& batches);
  void end_epoch(BatchSource& batches, const Evaluator& evaluator, bool whole);
  void finish_weights(BatchSource& batches, const Evaluator& evaluator, EpochEvent& event);
  bool asked_to_stop() const;
  bool recompute_activations();
  bool recompute_instead(std::int64_t part_images);
  bool out_of_steps() const { return options.max_steps > 0 && step >= options.max_steps; }
  void note(Note::Kind kind, std::string message);
  std::vector<double> mean_components() const;

  // trainer_step.cpp
  StepEvent train_on(const TensorBatch& batch);
  /// Forward and backward of one part at `height` x `width`; adds the part's loss components.
  void pass(const StepPart& part, std::int64_t height, std::int64_t width, const TensorBatch& all,
            torch::Tensor& components);
  /// What of `part` this rank shows; the statistics that ranks share know whether it counts.
  TensorBatch shown(const TensorBatch& part);
  NetworkOutput run_network(const torch::Tensor& bytes, std::int64_t height, std::int64_t width);
  /// uint8 images as the network takes them.
  torch::Tensor network_input(const torch::Tensor& bytes, std::int64_t height,
                              std::int64_t width) const;
  void note_repeated(const SurvivedStep& done);
  std::pair<std::int64_t, std::int64_t> target_size(const torch::Tensor& images) const;
  void apply_gradients(StepEvent& event);
  StepPlan plan() const;
  bool window_ends() const { return step - last_optimizer_step >= plan().accumulate; }

  // trainer_statistics.cpp
  void measure_statistics(BatchSource& batches);

  // trainer_ranks.cpp
  bool together() const { return options.group->size() > 1; }
  void join_ranks();
  void own_generator();
  void agree(const TensorBatch& batch_here);
  TensorBatch batch_of_all(const TensorBatch& batch_here);
  std::vector<torch::Tensor> window_gradients() const;

  // trainer_state.cpp
  Checkpoint make_checkpoint() const;
  void restore(const std::string& path);
  void save(bool best, bool keep = false);  ///< as last.pt, best.pt, epoch<N>.pt

  std::shared_ptr<Network> network;
  std::shared_ptr<Objective> objective;
  TrainOptions options;
  Precision precision;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<ModelEma> ema;
  std::unique_ptr<SurvivingStep> surviving;
  GradScaler scaler;
  std::shared_ptr<SharedStatistics> statistics = std::make_shared<SharedStatistics>();
  std::unique_ptr<detail::GradientReducer> reducer;  ///< null: alone

  /// What a rank would like, and what all do at the current step.
  struct Agreement {
    std::int64_t images = 0;  ///< of all ranks, padding not counted
    bool stop = false, save = false;
    std::int64_t parts = 0;  ///< most images per forward pass; 0: as before
    bool recompute = false;
  };
  Agreement wished{}, agreed{};
  std::vector<Observer*> observers;

  // Position and what has been accumulated.
  int epoch = 0;
  std::int64_t batch = 0, batches = 0, step = 0;
  std::int64_t last_optimizer_step = -1;
  std::int64_t window_images = 0;
  torch::Tensor component_sums;  ///< of the epoch so far, weighted by images
  std::int64_t component_images = 0;
  double best_fitness = -1;
  int best_epoch = -1;
  EvaluationSummary last_evaluation;
  int last_evaluated = -1;
  std::int64_t not_finite_run = 0;

  bool warned_small = false;

  // Of the running epoch, for events.
  double train_seconds = 0, wait_seconds = 0, cache_hit_rate = -1;
  std::chrono::steady_clock::time_point saved_at = std::chrono::steady_clock::now();
  std::int64_t epoch_images = 0;
  std::string resumed_data_id;
  std::int64_t resumed_batches = 0;
};

namespace detail {
/// `batch` without the samples at its end that stand past the epoch's end.
TensorBatch without_padding(const TensorBatch& batch);

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};
}  // namespace detail
}  // namespace brim
