#include "brim/train/recompute.h"

#include <torch/custom_class.h>

#include <utility>
#include <vector>

#include "brim/train/compat.h"

namespace brim {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the second forward pass needs besides its input.
struct Block : torch::CustomClassHolder {
  std::function<Tensor(const Tensor&)> forward;
  variable_list parameters;
  variable_list buffers;
  Tensor generator;
  detail::AutocastState autocast;
  torch::Device device = torch::kCPU;
  bool input_needs_gradient = false;
};

/// The surroundings of the first pass for the length of a scope; those from before come back.
class FirstPassScope {
 public:
  explicit FirstPassScope(const Block& block)
      : block_(block),
        autocast_(detail::autocast_state(block.device.type())),
        generator_(detail::generator_state(block.device)) {
    const torch::NoGradGuard no_grad;
    for (const Tensor& buffer : block.buffers) buffers_.push_back(buffer.clone());
    detail::clear_autocast_cache();
    detail::set_autocast_state(block.device.type(), block.autocast);
    detail::set_generator_state(block.device, block.generator);
  }
  /// The part of the scope that only the forward pass needs.
  void end_autocast() {
    detail::set_autocast_state(block_.device.type(), autocast_);
    detail::clear_autocast_cache();
  }
  ~FirstPassScope() {
    end_autocast();
    detail::set_generator_state(block_.device, generator_);
    const torch::NoGradGuard no_grad;
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      Tensor live = block_.buffers[i];
      live.copy_(buffers_[i]);
    }
  }
  FirstPassScope(const FirstPassScope&) = delete;
  FirstPassScope& operator=(const FirstPassScope&) = delete;

 private:
  const Block& block_;
  detail::AutocastState autocast_;
  Tensor generator_;
  variable_list buffers_;
};

struct Recompute : torch::autograd::Function<Recompute> {
  /// `inputs`: x, then the block's parameters, so that their gradients pass through here.
  static Tensor forward(AutogradContext* context, at::TensorList inputs,
                        const c10::intrusive_ptr<Block>& block) {
    block->generator = detail::generator_state(block->device);
    const Tensor y = block->forward(inputs[0]);
    context->save_for_backward({inputs[0]});
    context->saved_data["block"] = c10::IValue::make_capsule(block);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto capsule = context->saved_data["block"].toCapsule();
    const auto& block = static_cast<const Block&>(*capsule);
    Tensor x = context->get_saved_variables()[0].detach();
    x.requires_grad_(block.input_needs_gradient);
    variable_list wanted;
    if (block.input_needs_gradient) wanted.push_back(x);
    for (const Tensor& parameter : block.parameters)
      if (parameter.requires_grad()) wanted.push_back(parameter);
    variable_list found;
    {
      FirstPassScope scope(block);
      Tensor y;
      {
        const torch::AutoGradMode with_gradients(true);
        y = block.forward(x);
      }
      scope.end_autocast();
      // The statistics change back when the inner pass no longer needs them.
      found = torch::autograd::grad({y}, wanted, {gradients[0]}, c10::nullopt, false, true);
    }
    variable_list result;
    std::size_t next = 0;
    result.push_back(block.input_needs_gradient ? found[next++] : Tensor());
    for (const Tensor& parameter : block.parameters)
      result.push_back(parameter.requires_grad() ? found[next++] : Tensor());
    result.emplace_back();  // the block is no tensor
    return result;
  }
};

}  // namespace

Tensor recompute_in_backward(const torch::nn::Module& block,
                             const std::function<Tensor(const Tensor&)>& forward, const Tensor& x) {
  const auto state = c10::make_intrusive<Block>();
  state->parameters = block.parameters();
  bool wanted = x.requires_grad();
  for (const Tensor& parameter : state->parameters) wanted = wanted || parameter.requires_grad();
  if (!wanted || !torch::GradMode::is_enabled()) return forward(x);
  state->forward = forward;
  state->buffers = block.buffers();
  state->device = x.device();
  state->autocast = detail::autocast_state(x.device().type());
  state->input_needs_gradient = x.requires_grad();
  variable_list inputs{x};
  inputs.insert(inputs.end(), state->parameters.begin(), state->parameters.end());
  return Recompute::apply(at::TensorList(inputs), state);
}

}  // namespace brim
