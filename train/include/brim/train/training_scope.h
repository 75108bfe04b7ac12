#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "brim/train/network.h"

namespace brim {

/// Evaluation mode without gradients while it lives; the mode from before comes back at its end.
class EvaluationScope {
 public:
  explicit EvaluationScope(torch::nn::Module& network);
  ~EvaluationScope();
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  torch::nn::Module& network_;
  bool was_training_;
  torch::NoGradGuard no_grad_;
};

/// What a forward and backward pass changes besides its result: buffers (batch-norm statistics),
/// the generator and accumulated gradients. `take()` before a step, `restore()` when it failed.
/// Reuses its memory; gradients are set aside without a copy and joined again by `commit()`.
class StepSnapshot {
 public:
  StepSnapshot(torch::nn::Module& network, torch::Device device);

  /// Remembers buffers and generator and sets accumulated gradients aside.
  void take();
  /// As if the step had not been tried.
  void restore();
  /// Adds the step's gradients to those set aside.
  void commit();
  /// Of each parameter of the network: its gradient from before, undefined where there is none.
  const std::vector<torch::Tensor>& set_aside() const { return set_aside_; }
  /// Bytes held by gradients (set aside or not).
  std::int64_t gradient_bytes() const;

 private:
  torch::Device device_;
  std::vector<torch::Tensor> parameters_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> buffers_;  // live, copy
  std::vector<torch::Tensor> set_aside_;
  torch::Tensor generator_;
};

/// What losses and metrics calculate in, after autocast: float32 (on a GPU the objective takes the
/// few rows of the levels that it needs as float itself).
NetworkOutput in_float(NetworkOutput output);

}  // namespace brim
