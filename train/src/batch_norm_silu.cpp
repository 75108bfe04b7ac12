#include "batch_norm_silu.h"

#include <algorithm>
#include <cmath>

#include "batch_norm_silu_rows.h"

namespace brim {
namespace detail {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Inputs of the function: x, weight, bias of each part, then the residuals there are. Saved for
// backward: x, weight, bias, statistics of each part.
constexpr std::size_t kInputs = 3;
constexpr std::size_t kSaved = 4;

/// What one part needs besides its tensors; the running statistics are changed in place.
struct NormState {
  Tensor running_mean;
  Tensor running_var;
  double eps = 0;
  double momentum = 0;
  bool training = true;
  std::int64_t residual = -1;  ///< its place among the inputs, or -1
};

ConstRows const_rows(const Tensor& x) {
  return {x.data_ptr<float>(), row_view(x).stride};
}

/// The statistics of one part as [2, C]: mean, 1 / sqrt(variance + eps). Updates the running ones:
/// running = (1 - momentum) running + momentum current, with the unbiased variance.
Tensor statistics_of(const Tensor& x, const NormState& state) {
  const RowView view = row_view(x);
  Tensor result = torch::empty({2, view.channels}, torch::kFloat);
  float* mean_out = result.data_ptr<float>();
  float* invstd_out = mean_out + view.channels;
  float* running_mean = state.running_mean.data_ptr<float>();
  float* running_var = state.running_var.data_ptr<float>();
  if (!state.training) {
    for (std::int64_t c = 0; c < view.channels; ++c) {
      mean_out[c] = running_mean[c];
      invstd_out[c] = static_cast<float>(1.0 / std::sqrt(running_var[c] + state.eps));
    }
    return result;
  }
  std::vector<double> mean;
  std::vector<double> variance;
  row_moments(const_rows(x), view.rows, view.channels, mean, variance);
  const double unbiased = static_cast<double>(view.rows) / static_cast<double>(view.rows - 1);
  const double keep = 1.0 - state.momentum;
  for (std::int64_t c = 0; c < view.channels; ++c) {
    const double m = mean[static_cast<std::size_t>(c)];
    const double v = variance[static_cast<std::size_t>(c)];
    mean_out[c] = static_cast<float>(m);
    invstd_out[c] = static_cast<float>(1.0 / std::sqrt(v + state.eps));
    running_mean[c] = static_cast<float>(keep * running_mean[c] + state.momentum * m);
    running_var[c] = static_cast<float>(keep * running_var[c] + state.momentum * v * unbiased);
  }
  return result;
}

/// scale = weight * invstd.
Tensor scale_of(const Tensor& statistics, const Tensor& weight) {
  return statistics[1] * weight.detach();
}

struct FusedBatchNormSilu : torch::autograd::Function<FusedBatchNormSilu> {
  static Tensor forward(AutogradContext* context, at::TensorList inputs,
                        const std::vector<NormState>& states) {
    std::int64_t channels = 0;
    for (std::size_t i = 0; i < states.size(); ++i) channels += inputs[i * kInputs].size(1);
    const Tensor& first = inputs[0];
    Tensor y = torch::empty({first.size(0), channels, first.size(2), first.size(3)},
                            first.options(), torch::MemoryFormat::ChannelsLast);
    variable_list saved;
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < states.size(); ++i) {
      const Tensor& x = inputs[i * kInputs];
      const Tensor& weight = inputs[i * kInputs + 1];
      const Tensor& bias = inputs[i * kInputs + 2];
      const std::int64_t at = states[i].residual;
      const ConstRows residual =
          at < 0 ? ConstRows{} : const_rows(inputs[static_cast<std::size_t>(at)]);
      const Tensor statistics = statistics_of(x, states[i]);
      const Tensor scale = scale_of(statistics, weight);
      const RowView view = row_view(x);
      rows_forward(const_rows(x), residual, view.rows, view.channels,
                   {statistics.data_ptr<float>(), scale.data_ptr<float>(), bias.data_ptr<float>()},
                   {y.data_ptr<float>() + begin, channels});
      begin += view.channels;
      saved.insert(saved.end(), {x, weight, bias, statistics});
    }
    if (context != nullptr) {
      context->save_for_backward(saved);
      std::vector<std::int64_t> training;
      std::vector<std::int64_t> residuals;
      for (std::size_t i = 0; i < states.size(); ++i) {
        training.push_back(states[i].training ? 1 : 0);
        residuals.push_back(states[i].residual);
      }
      context->saved_data["training"] = training;
      context->saved_data["residuals"] = residuals;
    }
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto training = context->saved_data["training"].toIntVector();
    const auto residuals = context->saved_data["residuals"].toIntVector();
    Tensor dy = gradients[0];
    if (row_view(dy).rows == 0) dy = dy.contiguous(torch::MemoryFormat::ChannelsLast);
    variable_list result;
    variable_list through;  // the residuals' gradients are slices of dy
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < training.size(); ++i) {
      const Tensor& x = saved[i * kSaved];
      const Tensor& weight = saved[i * kSaved + 1];
      const Tensor& bias = saved[i * kSaved + 2];
      const Tensor& statistics = saved[i * kSaved + 3];
      const RowView view = row_view(x);
      const Tensor scale = scale_of(statistics, weight);
      Tensor dx = torch::empty(x.sizes(), x.options(), torch::MemoryFormat::ChannelsLast);
      Tensor dweight = torch::empty_like(weight);
      Tensor dbias = torch::empty_like(bias);
      rows_backward(const_rows(x), {dy.data_ptr<float>() + begin, row_view(dy).stride}, view.rows,
                    view.channels,
                    {statistics.data_ptr<float>(), scale.data_ptr<float>(), bias.data_ptr<float>()},
                    statistics.data_ptr<float>() + view.channels,
                    training[i] != 0 ? Statistics::OfBatch : Statistics::Constant,
                    {dweight.data_ptr<float>(),
                     dbias.data_ptr<float>(),
                     {dx.data_ptr<float>(), view.channels}});
      result.insert(result.end(), {dx, dweight, dbias});
      if (residuals[i] >= 0) through.push_back(dy.narrow(1, begin, view.channels));
      begin += view.channels;
    }
    result.insert(result.end(), through.begin(), through.end());
    result.emplace_back();  // the states are no tensors
    return result;
  }
};

NormState state_of(const torch::nn::BatchNorm2d& norm) {
  return {norm->running_mean,  norm->running_var,
          norm->options.eps(), norm->options.momentum().value_or(0.1),
          norm->is_training(), -1};
}

bool fusible(const Tensor& x) {
  return x.dim() == 4 && x.device().is_cpu() && x.scalar_type() == torch::kFloat &&
         x.layout() == torch::kStrided && row_view(x).rows > 0;
}

}  // namespace

bool can_fuse(const std::vector<BatchNormSiluPart>& parts) {
  for (const BatchNormSiluPart& part : parts) {
    const auto& norm = part.norm;
    if (!fusible(part.input) || part.input.size(1) % 4 != 0) return false;
    if (part.residual.defined() && !fusible(part.residual)) return false;
    if (!norm->weight.defined() || !norm->running_mean.defined() || !norm->options.momentum() ||
        norm->weight.scalar_type() != torch::kFloat ||
        norm->running_mean.scalar_type() != torch::kFloat || !norm->weight.device().is_cpu())
      return false;
    // torch refuses to normalise a single value; its message is kept.
    if (norm->is_training() && row_view(part.input).rows < 2) return false;
  }
  return true;
}

Tensor fused_batch_norm_silu(const std::vector<BatchNormSiluPart>& parts) {
  variable_list inputs;
  std::vector<NormState> states;
  for (const BatchNormSiluPart& part : parts) {
    inputs.insert(inputs.end(), {part.input, part.norm->weight, part.norm->bias});
    states.push_back(state_of(part.norm));
    if (!part.norm->is_training()) continue;
    torch::NoGradGuard no_grad;
    part.norm->num_batches_tracked.add_(1);
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].residual.defined()) continue;
    states[i].residual = static_cast<std::int64_t>(inputs.size());
    inputs.push_back(parts[i].residual);
  }
  const bool differentiate =
      std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.requires_grad(); });
  if (differentiate && torch::GradMode::is_enabled())
    return FusedBatchNormSilu::apply(at::TensorList(inputs), states);
  torch::NoGradGuard no_grad;
  return FusedBatchNormSilu::forward(nullptr, inputs, states);
}

Tensor composed_batch_norm_silu(const std::vector<BatchNormSiluPart>& parts) {
  std::vector<Tensor> results;
  for (const BatchNormSiluPart& part : parts) {
    torch::nn::BatchNorm2d norm = part.norm;
    Tensor y = torch::silu(norm->forward(part.input));
    results.push_back(part.residual.defined() ? part.residual + y : y);
  }
  return results.size() == 1 ? results[0] : torch::cat(results, 1);
}

}  // namespace detail

torch::Tensor batch_norm_silu(const std::vector<BatchNormSiluPart>& parts) {
  return detail::can_fuse(parts) ? detail::fused_batch_norm_silu(parts)
                                 : detail::composed_batch_norm_silu(parts);
}

torch::Tensor batch_norm_silu(const torch::Tensor& input, const torch::nn::BatchNorm2d& norm) {
  return batch_norm_silu({{input, norm, {}}});
}

}  // namespace brim
