#include "batch_norm_shared.h"

#include <torch/custom_class.h>

#include <utility>

namespace brim {
namespace detail {

std::shared_ptr<const SharedStatistics>& shared_statistics() {
  static thread_local std::shared_ptr<const SharedStatistics> current;
  return current;
}

void reduce_sums(ProcessGroup& group, std::vector<double>& values) {
  group.reduce(
      torch::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, torch::kDouble),
      Reduction::Sum);
}

}  // namespace detail

namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GroupHolder : torch::CustomClassHolder {
  std::shared_ptr<ProcessGroup> group;
};

/// y = sum over ranks of x. Every rank's loss depends on y, so the gradient is the sum over ranks
/// of theirs.
struct SumOverRanks : torch::autograd::Function<SumOverRanks> {
  static Tensor forward(AutogradContext* context, const Tensor& x,
                        const std::shared_ptr<ProcessGroup>& group) {
    auto holder = c10::make_intrusive<GroupHolder>();
    holder->group = group;
    context->saved_data["group"] = c10::IValue::make_capsule(holder);
    Tensor sum = x.detach().clone();
    group->reduce(sum, Reduction::Sum);
    return sum;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto capsule = context->saved_data["group"].toCapsule();
    Tensor sum = gradients[0].contiguous().clone();
    static_cast<const GroupHolder&>(*capsule).group->reduce(sum, Reduction::Sum);
    return {sum, Tensor()};
  }
};

Tensor per_channel(const Tensor& values) {
  return values.view({1, -1, 1, 1});
}

/// From torch's operations: any device, type and layout.
Tensor shared_batch_norm(const Tensor& input, const torch::nn::BatchNorm2d& norm,
                         const SharedStatistics& shared) {
  const Tensor x = input.to(torch::kFloat);
  const std::int64_t channels = x.size(1);
  const double weight = shared.counts ? 1.0 : 0.0;
  const Tensor rows = torch::full({1}, x.size(0) * x.size(2) * x.size(3), x.options());
  const Tensor sums =
      SumOverRanks::apply(torch::cat({x.sum({0, 2, 3}), rows}) * weight, shared.group);
  const Tensor count = sums[channels].detach();
  const Tensor mean = sums.narrow(0, 0, channels) / count;
  const Tensor centred = x - per_channel(mean);
  const Tensor squares =
      SumOverRanks::apply(centred.square().sum({0, 2, 3}) * weight, shared.group);
  const Tensor variance = squares / count;
  {
    const torch::NoGradGuard no_grad;
    const double momentum = norm->options.momentum().value_or(0.1);
    norm->num_batches_tracked.add_(1);
    norm->running_mean.mul_(1 - momentum).add_(mean, momentum);
    norm->running_var.mul_(1 - momentum)
        .add_(variance * (count / (count - 1).clamp_min(1)), momentum);
  }
  const auto normalised = [&](const Tensor& values, const Tensor& spread) {
    const Tensor scale = torch::rsqrt(spread + norm->options.eps()) * norm->weight;
    return values * per_channel(scale) + per_channel(norm->bias);
  };
  if (shared.counts) return normalised(centred, variance).to(input.scalar_type());
  // A rank that keeps the others company stays within bounds by statistics of its own; those of the
  // others remain in its graph, so that it joins their backward pass.
  const Tensor alone = x - per_channel(x.mean({0, 2, 3}));
  const Tensor y = normalised(alone, alone.square().mean({0, 2, 3}));
  return (y + per_channel(0 * (mean + variance))).to(input.scalar_type());
}

}  // namespace

SharedStatisticsScope::SharedStatisticsScope(std::shared_ptr<const SharedStatistics> shared)
    : before_(std::exchange(detail::shared_statistics(), std::move(shared))) {}

SharedStatisticsScope::~SharedStatisticsScope() {
  detail::shared_statistics() = std::move(before_);
}

Tensor batch_norm(const Tensor& input, const torch::nn::BatchNorm2d& norm) {
  const auto& shared = detail::shared_statistics();
  if (shared != nullptr && norm->is_training()) return shared_batch_norm(input, norm, *shared);
  return norm.ptr()->forward(input);
}

}  // namespace brim
