#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "brim/train/ema.h"

namespace brim {

enum class OptimizerKind : std::uint8_t { Sgd, Adam, AdamW };
/// "sgd", "adam", "adamw"; throws Error naming `key`.
OptimizerKind parse_optimizer(const std::string& text, const std::string& key = {});
std::string to_string(OptimizerKind kind);

/// Learning-rate groups, in this order everywhere: biases; weights (the only ones that decay);
/// weights of normalisation layers.
enum class GroupRole : std::uint8_t { Bias, Weight, Norm };
inline constexpr std::size_t kGroups = 3;

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::Sgd;
  double momentum = 0.937;  ///< Nesterov's, or Adam's first beta
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0005;  ///< of GroupRole::Weight; scale it to the batch beforehand
};

struct StepOptions {
  double max_norm = 10.0;        ///< total gradient norm is clipped to it; 0: no clipping
  double gradient_factor = 1.0;  ///< multiplies every gradient first (1 / loss scale, averaging)
  ModelEma* ema = nullptr;       ///< updated in the same sweep
};

struct StepResult {
  bool stepped = false;      ///< false: gradients were not finite; nothing was changed
  double gradient_norm = 0;  ///< total 2-norm after `gradient_factor`, before clipping
};

/// SGD with Nesterov momentum, Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)
/// with the numerics of torch::optim. On the CPU one sweep per step does clipping, decay, momentum,
/// update and moving average, in parallel over pieces of all parameters; the result does not depend
/// on the number of threads. Other devices and formats go through LibTorch's operators, which on a
/// GPU take all tensors of a group at once.
///
///   Optimizer optimizer(*network, {.kind = OptimizerKind::Sgd});
///   optimizer.set_learning_rates({0.1, 0.01, 0.01});
///   loss.backward();
///   optimizer.step({.max_norm = 10.0, .ema = &ema});
///   optimizer.zero_grad();
class Optimizer {
 public:
  /// Takes the parameters that require gradients. Allocates all of its state now.
  Optimizer(torch::nn::Module& network, const OptimizerOptions& options);

  void set_learning_rates(const std::array<double, kGroups>& rates) { rates_ = rates; }
  const std::array<double, kGroups>& learning_rates() const { return rates_; }
  void set_momentum(double momentum) { options_.momentum = momentum; }
  const OptimizerOptions& options() const { return options_; }
  std::array<std::int64_t, kGroups> group_sizes() const;  ///< parameters per group

  StepResult step(const StepOptions& options = {});
  /// Drops the gradients; the next backward pass takes new ones over without adding.
  void zero_grad();

  /// "momentum.<parameter>" or "first.", "second." and "steps" (int64 [parameters]).
  TensorMap state() const;
  /// Throws Error naming the first missing entry or wrong shape.
  void load(const TensorMap& state);

 private:
  struct Item {
    std::string name;
    torch::Tensor parameter;
    GroupRole role;
    torch::Tensor first;   ///< momentum
    torch::Tensor second;  ///< Adam only
    std::int64_t steps = 0;
  };
  struct Piece {  ///< a stretch of one parameter: the unit of parallel work
    std::int32_t item;
    std::int64_t begin, end;
  };
  struct Sweep;

  double total_norm(std::vector<torch::Tensor>& gradients) const;
  void sweep(const std::vector<torch::Tensor>& gradients, double factor, ModelEma* ema);
  void step_by_operators(const std::vector<std::size_t>& chosen,
                         const std::vector<torch::Tensor>& gradients, double factor);
  double decay_of(GroupRole role) const {
    return role == GroupRole::Weight ? options_.weight_decay : 0.0;
  }

  OptimizerOptions options_;
  std::array<double, kGroups> rates_{};
  std::vector<Item> items_;
  std::vector<Piece> pieces_;
  mutable std::vector<double> partial_;
};

}  // namespace brim
