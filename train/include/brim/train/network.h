#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "brim/dataloader/dataset.h"

namespace brim {

/// What a Network returns. Detection in training: `levels` alone, raw, one [N, anchors, y, x, 5+C]
/// per stride. Detection in evaluation: also `predictions` [N, boxes, 5+C], decoded to pixels
/// (cx, cy, w, h, objectness, classes). Classification: `predictions` = logits [N, C].
struct NetworkOutput {
  torch::Tensor predictions{};
  std::vector<torch::Tensor> levels{};
};

/// What a forward pass keeps for its backward pass: everything, or only what lies between blocks,
/// with the inside of each block computed a second time (activation checkpointing).
enum class Activations : std::uint8_t { Keep, Recompute };

/// A model that brim's trainer can train. `images`: float [N, 3, H, W] in [0, 1].
class Network : public torch::nn::Module {
 public:
  virtual NetworkOutput forward(const torch::Tensor& images) = 0;
  virtual Task task() const = 0;
  virtual int classes() const = 0;
  /// Input sides must be multiples of this.
  virtual int max_stride() const = 0;
  virtual const std::string& name() const = 0;  ///< "yolov5n", "resnet18"

  /// Whether it is made of blocks that can be recomputed.
  virtual bool can_recompute() const { return false; }
  /// Recompute only where can_recompute(); results and gradients do not depend on it.
  void set_activations(Activations activations) { activations_ = activations; }
  Activations activations() const { return activations_; }

  /// `watch` is called at the start of each forward pass with an empty name, then after every layer
  /// with that layer's name (for networks that can_recompute()). Empty: nobody watches.
  using LayerWatch = std::function<void(const std::string& layer)>;
  void set_layer_watch(LayerWatch watch) { layer_watch_ = std::move(watch); }

 protected:
  using BlockForward = std::function<torch::Tensor(const torch::Tensor&)>;
  /// forward(x) of `block`, recomputed in the backward pass where that is asked for.
  torch::Tensor run_block(const torch::nn::Module& block, const BlockForward& forward,
                          const torch::Tensor& x) const;
  void layer_done(const std::string& layer) const {
    if (layer_watch_) layer_watch_(layer);
  }

 private:
  Activations activations_ = Activations::Keep;
  LayerWatch layer_watch_{};
};

/// A Network with an anchor-based head.
class Detector : public Network {
 public:
  Task task() const override { return Task::Detect; }
  virtual std::vector<double> strides() const = 0;
  /// [levels, anchors per level, 2], in units of the level's stride (as in the state_dict).
  virtual torch::Tensor anchors() const = 0;
  virtual void set_anchors(const torch::Tensor& anchors) = 0;
};

struct NetworkOptions {
  std::string model = "yolov5n";  ///< built-in name, or path of a model YAML
  int classes = 80;
};

/// Builds `options.model`: yolov5{n,s,m,l,x}[6] from configs/models (embedded at build time) or a
/// YAML file of that layout; resnet{18,34,50,101}. Throws Error naming the nearest known name.
std::shared_ptr<Network> make_network(const NetworkOptions& options);
std::vector<std::string> known_networks();

}  // namespace brim
