#include <filesystem>

#include "brim/cache/error.h"
#include "brim/train/compat.h"
#include "trainer_impl.h"

namespace brim {

Checkpoint Trainer::Impl::make_checkpoint() const {
  Checkpoint state;
  CheckpointInfo& info = state.info;
  info.network = network->name();
  info.class_names = options.class_names;
  info.config = options.config;
  info.data_id = options.data_id;
  info.optimizer = to_string(options.optimizer.kind);
  info.epoch = epoch;
  info.batch = batch;
  info.batches_per_epoch = batches;
  info.step = step;
  info.last_optimizer_step = last_optimizer_step;
  info.window_images = window_images;
  if (ema) info.ema_updates = ema->updates();
  info.seed = options.seed;
  info.loss_scale = scaler.state().scale;
  info.loss_scale_good_steps = scaler.state().good_steps;
  info.best_fitness = best_fitness;
  info.best_epoch = best_epoch;
  info.component_images = component_images;
  state.model = state_of(*network);
  if (ema) state.ema = ema->state();
  state.optimizer = optimizer->state();
  const auto parameters = network->named_parameters();
  const std::vector<torch::Tensor> gradients = window_gradients();
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) state.gradients.emplace(parameters[i].key(), gradients[i]);
  }
  // Sums stay in the precision they are kept in, so that a resumed epoch reports the same.
  if (component_sums.defined()) state.generators.emplace("component_sums", component_sums);
  state.generators.emplace("cpu", detail::generator_state(torch::kCPU));
  if (!options.device.is_cpu())
    state.generators.emplace("device", detail::generator_state(options.device));
  return state;
}

void Trainer::Impl::restore(const std::string& path) {
  const Checkpoint state = load_checkpoint(path);
  const CheckpointInfo& info = state.info;
  const auto refuse = [&](const std::string& what, const std::string& then,
                          const std::string& now) {
    throw Error(
        "cannot resume: the checkpoint has " + what + " '" + then + "', this run '" + now + "'",
        {.file = path}, "resume with the settings of the run that wrote it");
  };
  if (state.optimizer.empty())
    throw Error("cannot resume: this checkpoint holds a finished model only", {.file = path},
                "give it as --weights to start a new training from it");
  if (info.network != network->name()) refuse("model", info.network, network->name());
  if (info.optimizer != to_string(options.optimizer.kind))
    refuse("optimiser", info.optimizer, to_string(options.optimizer.kind));
  if (info.data_id != options.data_id) refuse("data", info.data_id, options.data_id);
  if (info.seed != options.seed)
    refuse("seed", std::to_string(info.seed), std::to_string(options.seed));
  if (state.ema.empty() == (ema != nullptr))
    refuse("weight averages", state.ema.empty() ? "off" : "on", ema ? "on" : "off");
  load_state(*network, state.model);
  if (ema) ema->load(state.ema, info.ema_updates);
  optimizer->load(state.optimizer);
  for (auto& item : network->named_parameters()) {
    const auto found = state.gradients.find(item.key());
    // They are sums over ranks: one rank alone goes on with them.
    item.value().mutable_grad() =
        found == state.gradients.end() || options.group->rank() > 0
            ? torch::Tensor()
            : torch::empty_like(item.value().detach()).copy_(found->second);
  }
  const auto generator = [&](const char* name, torch::Device device) {
    const auto found = state.generators.find(name);
    if (found != state.generators.end()) detail::set_generator_state(device, found->second);
  };
  generator("cpu", torch::kCPU);
  if (!options.device.is_cpu()) generator("device", options.device);
  const auto sums = state.generators.find("component_sums");
  component_sums =
      sums != state.generators.end() ? sums->second.to(options.device) : torch::Tensor();
  component_images = info.component_images;
  scaler.load({info.loss_scale, info.loss_scale_good_steps});
  epoch = info.epoch;
  batch = info.batch;
  resumed_batches = info.batches_per_epoch;
  step = info.step;
  last_optimizer_step = info.last_optimizer_step;
  window_images = info.window_images;
  best_fitness = info.best_fitness;
  best_epoch = info.best_epoch;
  own_generator();
}

void Trainer::Impl::save(bool best, bool keep) {
  if (options.folder.empty() && !together()) return;
  const Checkpoint state = make_checkpoint();
  saved_at = std::chrono::steady_clock::now();
  if (options.folder.empty()) return;
  const std::filesystem::path folder(options.folder);
  std::vector<std::string> paths{(folder / "last.pt").string()};
  if (best) paths.push_back((folder / "best.pt").string());
  if (keep) paths.push_back((folder / ("epoch" + std::to_string(epoch) + ".pt")).string());
  save_checkpoint(paths, state);
  saved_at = std::chrono::steady_clock::now();
}

}  // namespace brim
