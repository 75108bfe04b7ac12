#include "brim/train/trainer.h"

#include <cmath>
#include <optional>

#include "brim/cache/error.h"
#include "trainer_impl.h"

namespace brim {
namespace {
constexpr double kPlainRate = 0.01;

std::int64_t nominal_accumulation(const TrainOptions& options) {
  return std::max<std::int64_t>(
      1, std::llround(static_cast<double>(options.nominal_batch) /
                      static_cast<double>(std::max<std::int64_t>(options.batch_size, 1))));
}

bool starts_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return name.starts_with(prefix); });
}

void to_channels_last(torch::nn::Module& network) {
  for (torch::Tensor& parameter : network.parameters()) {
    if (parameter.dim() == 4)
      parameter.set_data(parameter.detach().contiguous(torch::MemoryFormat::ChannelsLast));
  }
}
}  // namespace

Trainer::Impl::Impl(std::shared_ptr<Network> net, std::shared_ptr<Objective> goal,
                    TrainOptions wishes)
    : network(std::move(net)),
      objective(std::move(goal)),
      options(std::move(wishes)),
      precision(resolve_precision(options.precision, options.device)),
      scaler({.enabled = precision == Precision::Fp16}) {
  if (options.group == nullptr) options.group = make_single_process();
  if (options.join == GradientJoin::Auto)
    options.join = network->task() == Task::Detect ? GradientJoin::Sum : GradientJoin::Mean;
  network->to(options.device);
  to_channels_last(*network);
  for (const std::string& prefix : options.freeze) {
    const auto parameters = network->named_parameters();
    if (std::none_of(parameters.begin(), parameters.end(),
                     [&](const auto& item) { return item.key().starts_with(prefix); }))
      throw Error("no parameter's name begins with '" + prefix + "'",
                  {.file = {}, .line = 0, .key = "freeze"},
                  "names look like '" + parameters[0].key() + "'");
  }
  for (auto& item : network->named_parameters()) {
    if (starts_with_any(item.key(), options.freeze)) item.value().set_requires_grad(false);
  }
  const std::int64_t accumulate = nominal_accumulation(options);
  OptimizerOptions scaled = options.optimizer;
  if (options.join == GradientJoin::Sum)
    scaled.weight_decay *= static_cast<double>(options.batch_size * accumulate) /
                           static_cast<double>(options.nominal_batch);
  optimizer = std::make_unique<Optimizer>(*network, scaled);
  if (options.ema.decay > 0) ema = std::make_unique<ModelEma>(*network, options.ema);
  surviving = std::make_unique<SurvivingStep>(
      *network, options.device,
      SurvivingStepOptions{
          .micro_batch = options.micro_batch,
          .ranks = together() ? SurvivingStepOptions::Ranks::Together
                              : SurvivingStepOptions::Ranks::Alone,
          .instead = [this](std::int64_t part) { return recompute_instead(part); }});
  if (options.activation_checkpointing == ActivationCheckpointing::Off)
    network->set_activations(Activations::Keep);
  if (options.activation_checkpointing == ActivationCheckpointing::On &&
      network->activations() == Activations::Keep && !recompute_activations())
    throw Error(network->name() + " has no blocks whose activations can be recomputed",
                {.key = "train.activation_checkpointing"}, "leave it at auto or set it to off");
  join_ranks();
  if (!options.schedule) {
    options.schedule = [accumulate, momentum = options.optimizer.momentum](int, std::int64_t,
                                                                           std::int64_t) {
      return StepPlan{{kPlainRate, kPlainRate, kPlainRate}, momentum, accumulate};
    };
  }
}

void Trainer::Impl::note(Note::Kind kind, std::string message) {
  const Note event{kind, epoch, batch, std::move(message)};
  for (Observer* observer : observers) observer->on_note(event);
}

ActivationCheckpointing parse_activation_checkpointing(const std::string& text,
                                                       const std::string& key) {
  if (text == "auto") return ActivationCheckpointing::Auto;
  if (text == "on") return ActivationCheckpointing::On;
  if (text == "off") return ActivationCheckpointing::Off;
  throw Error("expected auto, on or off, found '" + text + "'",
              {.file = {}, .line = 0, .key = key});
}

bool Trainer::Impl::recompute_activations() {
  if (options.activation_checkpointing == ActivationCheckpointing::Off ||
      network->activations() == Activations::Recompute || !network->can_recompute())
    return false;
  if (together() && batches > 0)
    wished.recompute = true;
  else
    network->set_activations(Activations::Recompute);
  return true;
}

/// Out of memory at `part_images`: smaller parts are the cheaper way while they stay large enough
/// for batch normalisation.
bool Trainer::Impl::recompute_instead(std::int64_t part_images) {
  return part_images < 2 * kSmallMicroBatch && recompute_activations();
}

bool Trainer::Impl::asked_to_stop() const {
  if (together()) return agreed.stop;
  return options.stop != nullptr && options.stop->load(std::memory_order_relaxed);
}

std::vector<double> Trainer::Impl::mean_components() const {
  if (!component_sums.defined() || component_images == 0) return {};
  const torch::Tensor means =
      (component_sums / static_cast<double>(component_images)).to(torch::kCPU, torch::kDouble);
  return {means.data_ptr<double>(), means.data_ptr<double>() + means.numel()};
}

/// True when the epoch came to its end, false when the run is to stop within it.
bool Trainer::Impl::run_epoch(BatchSource& source) {
  source.start(epoch, batch);
  network->train();
  while (true) {
    const detail::Stopwatch wait;
    std::optional<TensorBatch> data = source.next();
    const double waited = wait.seconds();
    if (!data) return true;
    StepEvent event = train_on(*data);
    event.wait_seconds = waited;
    wait_seconds += waited;
    train_seconds += event.step_seconds;
    for (Observer* observer : observers) observer->on_step(event);
    if (agreed.save && batch < batches) save(false);
    if (asked_to_stop() || out_of_steps()) return batch >= batches && !asked_to_stop();
  }
}

/// Gives the averaged weights the statistics that belong to them, and evaluates them.
void Trainer::Impl::finish_weights(BatchSource& source, const Evaluator& evaluator,
                                   EpochEvent& event) {
  const detail::Stopwatch time;
  std::optional<ModelEma::Scope> averages;
  if (ema) averages.emplace(*ema);
  measure_statistics(source);
  if (evaluator) {
    const EvaluationScope evaluation(*network);
    event.evaluation = evaluator(*network);
    const torch::Tensor fitness = torch::full({1}, event.evaluation.fitness, torch::kDouble);
    options.group->broadcast(fitness, 0);  // what is decided by it is decided alike
    event.evaluation.fitness = fitness.item<double>();
    event.evaluated = true;
  }
  event.evaluation_seconds = time.seconds();
}

/// Evaluates where due, tells observers and writes checkpoints.
void Trainer::Impl::end_epoch(BatchSource& source, const Evaluator& evaluator, bool whole) {
  for (Observer* observer : observers) observer->on_trained();
  EpochEvent event;
  event.epoch = epoch;
  event.step = step;
  event.mean_components = mean_components();
  event.rates = optimizer->learning_rates();
  event.images = epoch_images;
  event.train_seconds = train_seconds;
  event.wait_seconds = wait_seconds;
  event.cache_hit_rate = cache_hit_rate;
  const bool last = epoch + 1 >= options.epochs || out_of_steps();
  const bool due = options.evaluate_every > 0 && (epoch + 1) % options.evaluate_every == 0;
  if (whole) {
    ++epoch;
    batch = 0;
    component_sums = torch::Tensor();
    component_images = 0;
  }
  try {
    if ((evaluator && due) || last) finish_weights(source, evaluator, event);
  } catch (...) {
    if (!together()) save(false);  // what was learnt is not lost with the evaluation
    throw;
  }
  if (event.evaluated) {
    last_evaluation = event.evaluation;
    last_evaluated = event.epoch;
    // Of equals the later: while nothing is found yet (fitness 0) there is more behind it.
    if (best_epoch < 0 || event.evaluation.fitness >= best_fitness) {
      best_fitness = event.evaluation.fitness;
      best_epoch = event.epoch;
      event.best = true;
    }
  }
  save(event.best || (!evaluator && best_epoch < 0),
       whole && options.save_period > 0 && epoch % options.save_period == 0);
  for (Observer* observer : observers) observer->on_epoch(event);
  train_seconds = wait_seconds = 0;
  epoch_images = 0;
}

TrainResult Trainer::Impl::fit(BatchSource& source, const Evaluator& evaluator) {
  const detail::Stopwatch time;
  batches = source.batches_per_epoch();
  if (batches == 0) throw Error("the training set yields no batch");
  if (resumed_batches != 0 && resumed_batches != batches)
    throw Error("the checkpoint was made with " + std::to_string(resumed_batches) +
                    " batches per epoch, this run has " + std::to_string(batches),
                {}, "resume with the same data and batch size");
  const RunInfo info{network->name(),
                     options.device.str(),
                     to_string(precision),
                     options.epochs,
                     batches,
                     epoch,
                     batch,
                     objective->component_names()};
  for (Observer* observer : observers) observer->on_start(info);
  saved_at = std::chrono::steady_clock::now();
  TrainResult result;
  while (epoch < options.epochs && !out_of_steps()) {
    const bool whole = run_epoch(source);
    if (asked_to_stop()) {
      save(false);
      result.reason = EndReason::Stopped;
      break;
    }
    cache_hit_rate = source.cache_hit_rate();
    end_epoch(source, evaluator, whole);
    if (out_of_steps()) break;
    if (options.patience > 0 && best_epoch >= 0 && epoch - 1 - best_epoch >= options.patience) {
      note(Note::Kind::EarlyStop, "no better fitness for " + std::to_string(options.patience) +
                                      " epochs; the best was epoch " + std::to_string(best_epoch));
      result.reason = EndReason::EarlyStop;
      break;
    }
  }
  if (result.reason == EndReason::Finished && epoch < options.epochs)
    result.reason = EndReason::MaxSteps;
  result.epochs = epoch;
  result.steps = step;
  result.best_fitness = best_fitness;
  result.best_epoch = best_epoch;
  result.last = last_evaluation;
  result.last_epoch = last_evaluated;
  const EndEvent end{result.reason, epoch, step, best_fitness, best_epoch, time.seconds()};
  for (Observer* observer : observers) observer->on_end(end);
  return result;
}

Trainer::Trainer(std::shared_ptr<Network> network, std::shared_ptr<Objective> objective,
                 TrainOptions options)
    : impl_(std::make_unique<Impl>(std::move(network), std::move(objective), std::move(options))) {}

Trainer::~Trainer() = default;

void Trainer::resume(const std::string& path) {
  impl_->restore(path);
}

TrainResult Trainer::fit(BatchSource& batches, const Evaluator& evaluator,
                         std::span<Observer* const> observers) {
  impl_->observers.assign(observers.begin(), observers.end());
  return impl_->fit(batches, evaluator);
}

StepEvent Trainer::step(const TensorBatch& batch) {
  impl_->network->train();
  impl_->batches = std::max(impl_->batches, impl_->batch + 1);
  return impl_->train_on(batch);
}

bool Trainer::recompute_activations() {
  return impl_->recompute_activations();
}

void Trainer::reduce_parts(std::int64_t images) {
  impl_->wished.parts = images;
}

Checkpoint Trainer::checkpoint() const {
  return impl_->make_checkpoint();
}

ModelEma& Trainer::ema() {
  if (!impl_->ema) throw Error("no averages of the weights are kept");
  return *impl_->ema;
}

const Optimizer& Trainer::optimizer() const {
  return *impl_->optimizer;
}

Precision Trainer::precision() const {
  return impl_->precision;
}

}  // namespace brim
