#pragma once

#include <memory>
#include <string>
#include <vector>

#include "brim/train/network.h"
#include "config.h"
#include "config_options.h"
#include "console.h"

namespace brim::cli {

/// A trained network and what its file says of it.
struct LoadedModel {
  std::shared_ptr<Network> network;
  std::vector<std::string> class_names;
};

/// Where the command line has no model and `model.weights` is a checkpoint of brim's: its network.
void take_model_of_weights(Config& config, const ConfigOptions& options, Console& console);
/// Loads `model.weights`: a checkpoint of brim's names its own network and classes, and sets
/// `config.train.img` where it is 0 (see without_image_size); a state_dict is put into `model.name`
/// with `class_names`. Throws Error.
LoadedModel load_model(Config& config, const std::vector<std::string>& class_names,
                       Console& console);
/// Defaults of commands that take the size of the images from the weights unless the user says it.
Config without_image_size();

}  // namespace brim::cli
