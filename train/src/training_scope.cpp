#include "brim/train/training_scope.h"

#include "brim/train/compat.h"

namespace brim {

EvaluationScope::EvaluationScope(torch::nn::Module& network)
    : network_(network), was_training_(network.is_training()) {
  network_.eval();
}

EvaluationScope::~EvaluationScope() {
  network_.train(was_training_);
}

StepSnapshot::StepSnapshot(torch::nn::Module& network, torch::Device device)
    : device_(device), parameters_(network.parameters()) {
  for (const torch::Tensor& buffer : network.buffers())
    buffers_.emplace_back(buffer, torch::empty_like(buffer));
  set_aside_.resize(parameters_.size());
}

void StepSnapshot::take() {
  const torch::NoGradGuard no_grad;
  for (auto& [live, copy] : buffers_) copy.copy_(live);
  generator_ = detail::generator_state(device_);
  // Nothing from here on can fail: whoever is told of a failure finds the gradients in their place.
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    torch::Tensor& gradient = parameters_[i].mutable_grad();
    set_aside_[i] = gradient;
    gradient = torch::Tensor();
  }
}

void StepSnapshot::restore() {
  const torch::NoGradGuard no_grad;
  for (auto& [live, copy] : buffers_) live.copy_(copy);
  detail::set_generator_state(device_, generator_);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].mutable_grad() = set_aside_[i];
    set_aside_[i] = torch::Tensor();
  }
}

void StepSnapshot::commit() {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> sums, terms;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    torch::Tensor& gradient = parameters_[i].mutable_grad();
    if (set_aside_[i].defined()) {
      if (gradient.defined()) {
        sums.push_back(set_aside_[i]);
        terms.push_back(gradient);
      }
      gradient = set_aside_[i];
      set_aside_[i] = torch::Tensor();
    }
  }
  if (!sums.empty()) at::_foreach_add_(sums, terms);
}

std::int64_t StepSnapshot::gradient_bytes() const {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    for (const torch::Tensor& gradient : {parameters_[i].grad(), set_aside_[i]})
      if (gradient.defined()) bytes += static_cast<std::int64_t>(gradient.nbytes());
  }
  return bytes;
}

NetworkOutput in_float(NetworkOutput output) {
  if (output.predictions.defined()) output.predictions = output.predictions.to(torch::kFloat);
  for (torch::Tensor& level : output.levels)
    if (level.is_cpu()) level = level.to(torch::kFloat);
  return output;
}

}  // namespace brim
