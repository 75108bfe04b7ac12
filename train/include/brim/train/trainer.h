#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brim/train/batch_source.h"
#include "brim/train/checkpoint.h"
#include "brim/train/network.h"
#include "brim/train/objective.h"
#include "brim/train/observer.h"
#include "brim/train/optimizer.h"
#include "brim/train/precision.h"
#include "brim/train/process_group.h"

namespace brim {
struct ScheduleOptions;

/// What holds for one batch.
struct StepPlan {
  std::array<double, kGroups> rates{};  ///< bias, weight, norm
  double momentum = 0.937;
  std::int64_t accumulate = 1;  ///< batches per optimiser step
};
/// Plan of batch `batch` of `epoch`, with `batches` per epoch. Pure: resuming depends on it.
using StepSchedule = std::function<StepPlan(int epoch, std::int64_t batch, std::int64_t batches)>;
/// The schedule of `options` for whatever number of batches per epoch the run has.
StepSchedule make_schedule(const ScheduleOptions& options);

/// How gradients of the images of one optimiser step are joined. Sum is what detection's settings
/// are made for; Mean divides by the images really in the step, also in an epoch's last one.
enum class GradientJoin : std::uint8_t { Auto, Sum, Mean };

/// Auto: kept while memory lasts; when a step runs out of it, blocks are recomputed before parts
/// become smaller than batch normalisation can bear.
enum class ActivationCheckpointing : std::uint8_t { Auto, On, Off };
/// "auto", "on", "off"; throws Error naming `key`.
ActivationCheckpointing parse_activation_checkpointing(const std::string& text,
                                                       const std::string& key = {});

struct TrainOptions {
  int epochs = 100;
  std::int64_t max_steps = 0;              ///< batches in all; 0: no limit
  std::int64_t batch_size = 16;            ///< of all ranks together; each takes an equal share
  std::int64_t nominal_batch = 64;         ///< gradients are accumulated up to it
  OptimizerOptions optimizer{};            ///< weight_decay holds for the nominal batch
  StepSchedule schedule{};                 ///< empty: 0.01 throughout, `nominal_batch` reached
  GradientJoin join = GradientJoin::Auto;  ///< Auto: Sum for detection, Mean for classification
  EmaOptions ema{};
  double clip_norm = 10.0;
  Precision precision = Precision::Auto;
  torch::Device device = torch::kCPU;
  double multi_scale = 0.0;           ///< +/- fraction of the size, per batch; 0: off
  std::vector<std::string> freeze{};  ///< name prefixes of parameters that are not trained
  std::int64_t micro_batch = 0;       ///< most images per forward pass; 0: the batch
  ActivationCheckpointing activation_checkpointing = ActivationCheckpointing::Auto;
  int evaluate_every = 1;  ///< epochs; 0: after the last one only
  /// Training images over which the batch-norm statistics of the weights to evaluate are measured;
  /// 0: the running averages of the training stay. These lag behind weights that move fast
  /// (Precise BN: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3).
  std::int64_t precise_bn = 0;
  int patience = 100;  ///< epochs without a better fitness; 0: never stop early
  std::uint64_t seed = 0;
  std::string folder{};  ///< of last.pt and best.pt; empty: no checkpoints
  int save_period = 0;   ///< epochs between checkpoints that stay, as epoch<N>.pt; 0: none
  double checkpoint_minutes = 10;  ///< last.pt is written within epochs as well; 0: no
  std::string data_id{};  ///< identifies data and its order; a resume with another is refused
  std::string config{};   ///< kept in checkpoints for whoever reads them
  std::vector<std::string> class_names{};
  const std::atomic<bool>* stop = nullptr;  ///< true: end after the current batch, resumable
  /// Ranks that train together; null: this process alone. Each is given its own share of every
  /// batch, the same options but for `folder` (rank 0's only), and ends up with the same weights:
  /// those of one process that is given whole batches. All public functions are then called by all
  /// ranks.
  std::shared_ptr<ProcessGroup> group{};
  std::int64_t not_finite_limit = 50;  ///< optimiser steps lost in a row before it is an error
};

/// Evaluates the network it is given (which then holds the averaged weights).
using Evaluator = std::function<EvaluationSummary(Network&)>;

struct TrainResult {
  EndReason reason = EndReason::Finished;
  int epochs = 0;          ///< completed
  std::int64_t steps = 0;  ///< batches
  double best_fitness = 0;
  int best_epoch = -1;
  EvaluationSummary last{};  ///< the last evaluation
  int last_epoch = -1;       ///< that it was made after; negative: there was none
};

/// Trains a Network. The network is moved to the device and to channels-last.
///
///   Trainer trainer(network, objective, {.epochs = 3, .folder = "run"});
///   auto batches = make_batch_source(loader, torch::kCPU);
///   trainer.fit(*batches, [&](Network& n) { return summarize(evaluate(n, validation)); });
///
/// When a step runs out of memory it is undone and repeated as smaller micro-batches on the same
/// samples; the run goes on so and observers are told. One thread.
class Trainer {
 public:
  Trainer(std::shared_ptr<Network> network, std::shared_ptr<Objective> objective,
          TrainOptions options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Continues from a checkpoint at the very batch it was written at. Before fit(). Throws Error.
  void resume(const std::string& path);
  TrainResult fit(BatchSource& batches, const Evaluator& evaluator = {},
                  std::span<Observer* const> observers = {});

  /// Trains on one batch (forward, backward; the optimiser when it is due), as fit() does.
  StepEvent step(const TensorBatch& batch);
  /// At most `images` of the next batch's size per forward pass from then on, as after running out
  /// of memory; a larger part is tried again after a calm while.
  void reduce_parts(std::int64_t images);
  /// Recomputes activations from now on; false where the network cannot, does so already, or
  /// checkpointing is off.
  bool recompute_activations();
  Checkpoint checkpoint() const;
  ModelEma& ema();  ///< throws Error where `ema.decay` is 0
  const Optimizer& optimizer() const;
  Precision precision() const;  ///< as resolved

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brim
