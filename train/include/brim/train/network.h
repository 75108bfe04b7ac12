#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <memory>
#include <string>
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

/// A model that brim's trainer can train. `images`: float [N, 3, H, W] in [0, 1].
class Network : public torch::nn::Module {
 public:
  virtual NetworkOutput forward(const torch::Tensor& images) = 0;
  virtual Task task() const = 0;
  virtual int classes() const = 0;
  /// Input sides must be multiples of this.
  virtual int max_stride() const = 0;
  virtual const std::string& name() const = 0;  ///< "yolov5n", "resnet18"
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
