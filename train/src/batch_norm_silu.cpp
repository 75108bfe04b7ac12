#include "batch_norm_silu.h"

#include <torch/custom_class.h>

#include <algorithm>
#include <cmath>

#include "batch_norm_shared.h"
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

/// Mean and biased variance of one part's channels.
struct Moments {
  std::vector<double> mean{};
  std::vector<double> variance{};
};

/// Moments over the samples of all ranks from those over `rows` rows here. The sums travel as
/// differences to the running mean, which every rank has, so that no digits are lost. Returns the
/// rows of all ranks.
std::int64_t share_moments(const SharedStatistics& shared, const std::vector<NormState>& states,
                           std::int64_t rows, std::vector<Moments>& parts) {
  const double n = shared.counts ? static_cast<double>(rows) : 0.0;
  std::vector<double> sums{n};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const float* origin = states[i].running_mean.data_ptr<float>();
    for (std::size_t c = 0; c < parts[i].mean.size(); ++c) {
      const double d = parts[i].mean[c] - origin[c];
      sums.push_back(n * d);
      sums.push_back(n * (parts[i].variance[c] + d * d));
    }
  }
  reduce_sums(*shared.group, sums);
  const double all = sums[0];
  std::size_t at = 1;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const float* origin = states[i].running_mean.data_ptr<float>();
    for (std::size_t c = 0; c < parts[i].mean.size(); ++c, at += 2) {
      const double d = sums[at] / all;
      parts[i].mean[c] = origin[c] + d;
      parts[i].variance[c] = std::max(0.0, sums[at + 1] / all - d * d);
    }
  }
  return static_cast<std::int64_t>(all);
}

/// [2, C]: mean, 1 / sqrt(variance + eps).
Tensor batch_statistics(const NormState& state, const Moments& moments) {
  const auto channels = static_cast<std::int64_t>(moments.mean.size());
  Tensor result = torch::empty({2, channels}, torch::kFloat);
  float* mean_out = result.data_ptr<float>();
  float* invstd_out = mean_out + channels;
  for (std::int64_t c = 0; c < channels; ++c) {
    const double v = moments.variance[static_cast<std::size_t>(c)];
    mean_out[c] = static_cast<float>(moments.mean[static_cast<std::size_t>(c)]);
    invstd_out[c] = static_cast<float>(1.0 / std::sqrt(v + state.eps));
  }
  return result;
}

/// running = (1 - momentum) running + momentum current, with the variance unbiased over `rows`.
void update_running(const NormState& state, const Moments& moments, std::int64_t rows) {
  float* running_mean = state.running_mean.data_ptr<float>();
  float* running_var = state.running_var.data_ptr<float>();
  const double unbiased = rows > 1 ? static_cast<double>(rows) / static_cast<double>(rows - 1) : 1;
  const double keep = 1.0 - state.momentum;
  for (std::size_t c = 0; c < moments.mean.size(); ++c) {
    const double m = moments.mean[c], v = moments.variance[c];
    running_mean[c] = static_cast<float>(keep * running_mean[c] + state.momentum * m);
    running_var[c] = static_cast<float>(keep * running_var[c] + state.momentum * v * unbiased);
  }
}

/// The same from the running statistics (evaluation mode).
Tensor running_statistics(const NormState& state) {
  const std::int64_t channels = state.running_mean.numel();
  Tensor result = torch::empty({2, channels}, torch::kFloat);
  const float* variance = state.running_var.data_ptr<float>();
  result[0].copy_(state.running_mean);
  float* invstd = result.data_ptr<float>() + channels;
  for (std::int64_t c = 0; c < channels; ++c)
    invstd[c] = static_cast<float>(1.0 / std::sqrt(variance[c] + state.eps));
  return result;
}

/// Statistics of every part and, in `counted`, how many rows each was taken from (0: constant).
std::vector<Tensor> statistics_of(at::TensorList inputs, const std::vector<NormState>& states,
                                  const SharedStatistics* shared,
                                  std::vector<std::int64_t>& counted) {
  std::vector<Moments> moments(states.size());
  std::vector<Tensor> result;
  const bool training = states[0].training;
  std::int64_t rows = row_view(inputs[0]).rows;
  for (std::size_t i = 0; training && i < states.size(); ++i) {
    const Tensor& x = inputs[i * kInputs];
    row_moments(const_rows(x), rows, x.size(1), moments[i].mean, moments[i].variance);
  }
  // A rank that keeps the others company stays within bounds by statistics of its own.
  const bool own = training && shared != nullptr && !shared->counts;
  for (std::size_t i = 0; own && i < states.size(); ++i)
    result.push_back(batch_statistics(states[i], moments[i]));
  if (training && shared != nullptr) rows = share_moments(*shared, states, rows, moments);
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (!own)
      result.push_back(training ? batch_statistics(states[i], moments[i])
                                : running_statistics(states[i]));
    if (training) update_running(states[i], moments[i], rows);
  }
  counted.assign(states.size(), training ? rows : 0);
  return result;
}

/// scale = weight * invstd.
Tensor scale_of(const Tensor& statistics, const Tensor& weight) {
  return statistics[1] * weight.detach();
}

/// Who shares statistics, for the backward pass.
struct SharedHolder : torch::CustomClassHolder {
  std::shared_ptr<const SharedStatistics> shared;
};

/// What the backward pass of one part works on.
struct SavedPart {
  const Tensor& x;
  const Tensor& bias;
  const Tensor& statistics;
  RowView view;
  Tensor scale;
  ConstRows dy;
  std::int64_t begin;  ///< its first channel in the joined tensor
  BackwardSums sums;

  SavedPart(const Tensor* saved, const Tensor& gradient, std::int64_t first_channel)
      : x(saved[0]),
        bias(saved[2]),
        statistics(saved[3]),
        view(row_view(x)),
        scale(scale_of(statistics, saved[1])),
        dy{gradient.data_ptr<float>() + first_channel, row_view(gradient).stride},
        begin(first_channel),
        sums(rows_backward_sums(const_rows(x), dy, view.rows, view.channels, affine())) {}

  ChannelAffine affine() const {
    return {statistics.data_ptr<float>(), scale.data_ptr<float>(), bias.data_ptr<float>()};
  }
  const float* invstd() const { return statistics.data_ptr<float>() + view.channels; }
  Tensor weight_gradient() const {
    Tensor result = torch::empty_like(bias);
    for (std::size_t c = 0; c < sums.product.size(); ++c)
      result.data_ptr<float>()[c] = static_cast<float>(sums.product[c] * invstd()[c]);
    return result;
  }
  Tensor bias_gradient() const {
    Tensor result = torch::empty_like(bias);
    for (std::size_t c = 0; c < sums.sum.size(); ++c)
      result.data_ptr<float>()[c] = static_cast<float>(sums.sum[c]);
    return result;
  }
  void input_gradient(const Tensor& dx, std::int64_t counted) const {
    rows_backward(const_rows(x), dy, view.rows, view.channels, affine(), invstd(), sums, counted,
                  {dx.data_ptr<float>(), view.channels});
  }
};

/// Sums of the parts over the samples of all ranks.
void share_sums(const SharedStatistics& shared, std::vector<SavedPart>& parts) {
  std::vector<double> all;
  for (const SavedPart& part : parts) {
    all.insert(all.end(), part.sums.sum.begin(), part.sums.sum.end());
    all.insert(all.end(), part.sums.product.begin(), part.sums.product.end());
  }
  reduce_sums(*shared.group, all);
  auto from = all.cbegin();
  for (SavedPart& part : parts) {
    const auto count = static_cast<std::ptrdiff_t>(part.sums.sum.size());
    part.sums.sum.assign(from, from + count);
    part.sums.product.assign(from + count, from + 2 * count);
    from += 2 * count;
  }
}

struct FusedBatchNormSilu : torch::autograd::Function<FusedBatchNormSilu> {
  static Tensor forward(AutogradContext* context, at::TensorList inputs,
                        const std::vector<NormState>& states,
                        const std::shared_ptr<const SharedStatistics>& shared) {
    std::int64_t channels = 0;
    for (std::size_t i = 0; i < states.size(); ++i) channels += inputs[i * kInputs].size(1);
    const Tensor& first = inputs[0];
    Tensor y = torch::empty({first.size(0), channels, first.size(2), first.size(3)},
                            first.options(), torch::MemoryFormat::ChannelsLast);
    variable_list saved;
    std::vector<std::int64_t> counted;
    const std::vector<Tensor> all = statistics_of(inputs, states, shared.get(), counted);
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < states.size(); ++i) {
      const Tensor& x = inputs[i * kInputs];
      const Tensor& weight = inputs[i * kInputs + 1];
      const Tensor& bias = inputs[i * kInputs + 2];
      const std::int64_t at = states[i].residual;
      const ConstRows residual =
          at < 0 ? ConstRows{} : const_rows(inputs[static_cast<std::size_t>(at)]);
      const Tensor& statistics = all[i];
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
      std::vector<std::int64_t> residuals;
      for (const NormState& state : states) residuals.push_back(state.residual);
      context->saved_data["counted"] = counted;
      context->saved_data["residuals"] = residuals;
      if (shared != nullptr) {
        auto holder = c10::make_intrusive<SharedHolder>();
        holder->shared = shared;
        context->saved_data["shared"] = c10::IValue::make_capsule(holder);
      }
    }
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto counted = context->saved_data["counted"].toIntVector();
    const auto residuals = context->saved_data["residuals"].toIntVector();
    Tensor dy = gradients[0];
    if (row_view(dy).rows == 0) dy = dy.contiguous(torch::MemoryFormat::ChannelsLast);
    std::vector<SavedPart> parts;
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < counted.size(); ++i) {
      parts.emplace_back(&saved[i * kSaved], dy, begin);
      begin += parts.back().view.channels;
    }
    variable_list result;
    for (const SavedPart& part : parts) {  // the weights' gradients are those of this rank
      result.push_back(
          torch::empty(part.x.sizes(), part.x.options(), torch::MemoryFormat::ChannelsLast));
      result.push_back(part.weight_gradient());
      result.push_back(part.bias_gradient());
    }
    const auto shared = context->saved_data.find("shared");
    bool counts = true;  // else the statistics are no function of these samples
    if (shared != context->saved_data.end() && counted[0] > 0) {
      const auto capsule = shared->second.toCapsule();
      const SharedStatistics& with = *static_cast<const SharedHolder&>(*capsule).shared;
      share_sums(with, parts);
      counts = with.counts;
    }
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts[i].input_gradient(result[i * kInputs], counts ? counted[i] : 0);
    for (std::size_t i = 0; i < parts.size(); ++i) {  // the residuals' are slices of dy
      if (residuals[i] >= 0) result.push_back(dy.narrow(1, parts[i].begin, parts[i].view.channels));
    }
    result.emplace_back();  // the states and who shares are no tensors
    result.emplace_back();
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
    if (norm->is_training() && row_view(part.input).rows < 2 && shared_statistics() == nullptr)
      return false;
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
    return FusedBatchNormSilu::apply(at::TensorList(inputs), states, shared_statistics());
  torch::NoGradGuard no_grad;
  return FusedBatchNormSilu::forward(nullptr, inputs, states, shared_statistics());
}

Tensor composed_batch_norm_silu(const std::vector<BatchNormSiluPart>& parts) {
  std::vector<Tensor> results;
  for (const BatchNormSiluPart& part : parts) {
    Tensor y = torch::silu(batch_norm(part.input, part.norm));
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
