#include "loaded_model.h"

#include <fmt/format.h>

#include "brim/train/checkpoint.h"
#include "brim/train/weights.h"
#include "training.h"

namespace brim::cli {
Config without_image_size() {
  Config config;
  config.train.img = 0;
  return config;
}

namespace {

/// What a checkpoint was trained with; one without settings (a library user's) names its network.
Config trained_config(const CheckpointInfo& info, const std::string& path) {
  Config trained;
  trained.model.name = info.network;
  if (!info.config.empty()) read_yaml_text(trained, info.config, path);
  return trained;
}

}  // namespace

void take_model_of_weights(Config& config, const ConfigOptions& options, Console& console) {
  const std::string& path = config.model.weights;
  Config unnamed;
  unnamed.model.name.clear();
  if (path.empty() || !options.resolve(unnamed).model.name.empty()) return;
  const auto checkpoint = find_checkpoint(path);
  if (!checkpoint) return;
  config.model.name = trained_config(checkpoint->info, path).model.name;
  console.print(fmt::format("{} is what {} was trained for", config.model.name, path));
}

LoadedModel load_model(Config& config, const std::vector<std::string>& class_names,
                       Console& console) {
  const std::string& path = config.model.weights;
  if (path.empty()) {
    throw Error("no weights given", {.key = "model.weights"},
                "name them with --weights runs/train/exp/best.pt");
  }
  LoadedModel model;
  if (const auto checkpoint = find_checkpoint(path)) {
    const CheckpointInfo& info = checkpoint->info;
    const Config trained = trained_config(info, path);
    model.class_names = info.class_names;
    model.network = make_network(
        {.model = trained.model.name, .classes = static_cast<int>(info.class_names.size())});
    load_state(*model.network, checkpoint->ema.empty() ? checkpoint->model : checkpoint->ema);
    if (config.train.img == 0) config.train.img = trained.train.img;
    check_size(config, *model.network);
    console.print(fmt::format("{}: {}, {} classes, after {} epochs", path, info.network,
                              info.class_names.size(), info.epoch));
    return model;
  }
  if (config.train.img == 0) config.train.img = Config().train.img;
  if (class_names.empty()) {
    throw Error("a state_dict does not name its classes", {.file = path},
                "give the data it was trained on with --data");
  }
  model.class_names = class_names;
  model.network =
      make_network({.model = config.model.name, .classes = static_cast<int>(class_names.size())});
  check_size(config, *model.network);
  const TransferReport report = load_weights(*model.network, path);
  console.print(fmt::format("{}: transferred {}", path, report.summary()));
  return model;
}

}  // namespace brim::cli
