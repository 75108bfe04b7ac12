#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "brim/train/ema.h"

namespace brim {

/// What a checkpoint says of itself besides its tensors.
struct CheckpointInfo {
  std::string network;  ///< "yolov5n"
  std::vector<std::string> class_names{};
  std::string config{};     ///< the run's resolved settings, as text; not interpreted
  std::string data_id{};    ///< identifies data and order (fingerprint, seed, batch size)
  std::string optimizer{};  ///< "sgd"
  int epoch = 0;            ///< the epoch that goes on when resumed
  std::int64_t batch = 0;   ///< batches of it that are done
  std::int64_t batches_per_epoch = 0;
  std::int64_t step = 0;  ///< batches done in all
  std::int64_t last_optimizer_step = -1;
  std::int64_t window_images = 0;  ///< images in the gradients accumulated so far
  std::int64_t ema_updates = 0;
  std::uint64_t seed = 0;
  double loss_scale = 1;
  std::int64_t loss_scale_good_steps = 0;
  double best_fitness = -1;
  int best_epoch = -1;
  std::int64_t component_images = 0;
};

/// All state of a training, or (`optimizer` empty) a finished model.
struct Checkpoint {
  CheckpointInfo info{};
  TensorMap model{};       ///< state_dict: parameters and buffers
  TensorMap ema{};         ///< averages under the same names; may be empty
  TensorMap optimizer{};   ///< Optimizer::state()
  TensorMap gradients{};   ///< accumulated and not yet applied
  TensorMap generators{};  ///< generator states and the running epoch's loss sums
};

/// Writes a file that Python's torch.load reads as a dict of dicts ("model", "ema", "optimizer",
/// "gradients", "generators") and a JSON text "brim" with the rest, also with weights_only=True.
/// Written beside `path`, synced and renamed: after a crash there is the old file or the new one.
/// Throws Error.
void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);
/// The same content to two places, encoded once.
void save_checkpoint(const std::vector<std::string>& paths, const Checkpoint& checkpoint);
/// Throws Error for a missing file, one that is cut short or damaged (checksum), one of another
/// format version, and one that is no checkpoint of brim's.
Checkpoint load_checkpoint(const std::string& path);
/// The same, but nothing where the file is whole and no checkpoint of brim's (a state_dict).
std::optional<Checkpoint> find_checkpoint(const std::string& path);

/// Rewrites `path` with the averaged (else raw) weights as "model" and nothing else but its info.
void strip_checkpoint(const std::string& path, const std::string& output);

/// Takes the next bytes of a file; does not throw.
using FileSink = std::function<void(std::string_view bytes)>;
/// Puts what `write` gives its sink at `path` atomically: temporary file in the same folder, sync,
/// rename, sync of the folder. Throws Error; the old file is then untouched.
void write_file_atomically(const std::string& path,
                           const std::function<void(const FileSink&)>& write);
void write_file_atomically(const std::string& path, const char* data, std::size_t size);

/// Parameters and buffers of `network` by name. The tensors are the network's own.
TensorMap state_of(torch::nn::Module& network);
/// Copies `state` into `network`; throws Error naming the first missing entry or wrong shape.
void load_state(torch::nn::Module& network, const TensorMap& state);

}  // namespace brim
