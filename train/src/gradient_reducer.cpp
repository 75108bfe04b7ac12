#include "gradient_reducer.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

namespace brim::detail {
namespace {
constexpr std::int64_t kLeastBytes = std::int64_t{1} << 20;
constexpr std::int64_t kLeastBuckets = 4;  // where bytes allow it, so that something overlaps

std::int64_t bytes_of(const torch::Tensor& tensor) {
  return static_cast<std::int64_t>(tensor.nbytes());
}
}  // namespace

/// Runs when autograd has added the last part to a parameter's gradient.
class GradientReducer::Hook final : public torch::autograd::FunctionPostHook {
 public:
  Hook(GradientReducer& owner, std::size_t entry) : owner_(owner), entry_(entry) {}
  torch::autograd::variable_list operator()(
      const torch::autograd::variable_list& outputs,
      const torch::autograd::variable_list& /*inputs*/) override {
    if (owner_.set_aside_ != nullptr) {
      owner_.take(owner_.entries_[entry_]);
      owner_.start_full();
    }
    return outputs;
  }

 private:
  GradientReducer& owner_;
  std::size_t entry_;
};

GradientReducer::GradientReducer(torch::nn::Module& network, std::shared_ptr<ProcessGroup> group,
                                 std::int64_t bucket_bytes)
    : group_(std::move(group)) {
  const std::vector<torch::Tensor> parameters = network.parameters();
  for (std::size_t i = parameters.size(); i-- > 0;) {
    if (!parameters[i].requires_grad()) continue;
    Entry entry;
    entry.parameter = parameters[i];
    entry.number = i;
    entries_.push_back(std::move(entry));
  }
  make_buckets(bucket_bytes);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    entry.accumulator = torch::autograd::impl::grad_accumulator(entry.parameter);
    entry.hook = entry.accumulator->add_post_hook(std::make_unique<Hook>(*this, i));
  }
}

GradientReducer::~GradientReducer() {
  for (Entry& entry : entries_) entry.accumulator->del_post_hook(entry.hook);
}

void GradientReducer::make_buckets(std::int64_t bucket_bytes) {
  std::int64_t total = 0;
  for (const Entry& entry : entries_) total += bytes_of(entry.parameter);
  const std::int64_t bytes = std::min(bucket_bytes, std::max(kLeastBytes, total / kLeastBuckets));
  std::int64_t held = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const torch::Tensor& parameter = entries_[i].parameter;
    const bool other_type =
        i > 0 && parameter.scalar_type() != entries_[i - 1].parameter.scalar_type();
    if (i == 0 || other_type || held + bytes_of(parameter) > bytes) {
      buckets_.emplace_back();
      held = 0;
    }
    held += bytes_of(parameter);
    entries_[i].bucket = buckets_.size() - 1;
    buckets_.back().numel += parameter.numel();
    ++buckets_.back().entries;
  }
  std::size_t filled = buckets_.size();
  std::int64_t offset = 0;
  for (Entry& entry : entries_) {
    Bucket& bucket = buckets_[entry.bucket];
    const torch::Tensor& parameter = entry.parameter;
    if (filled != entry.bucket) {
      bucket.values = torch::zeros({bucket.numel}, parameter.detach().options());
      filled = entry.bucket;
      offset = 0;
    }
    const torch::Tensor flat = bucket.values.narrow(0, offset, parameter.numel());
    entry.place = parameter.is_non_overlapping_and_dense()
                      ? flat.as_strided(parameter.sizes(), parameter.strides())
                      : flat.view(parameter.sizes());
    offset += parameter.numel();
  }
}

void GradientReducer::arm(const std::vector<torch::Tensor>& set_aside) {
  set_aside_ = &set_aside;
  next_ = 0;
  for (Entry& entry : entries_) entry.ready = false;
  for (Bucket& bucket : buckets_) bucket.missing = bucket.entries;
}

void GradientReducer::take(Entry& entry) {
  if (entry.ready) return;
  const torch::NoGradGuard no_grad;
  const torch::Tensor& gradient = entry.parameter.grad();
  const torch::Tensor& before = (*set_aside_)[entry.number];
  if (gradient.defined() && before.defined()) {
    torch::add_out(entry.place, gradient, before);
  } else if (gradient.defined() || before.defined()) {
    entry.place.copy_(gradient.defined() ? gradient : before);
  } else {
    entry.place.zero_();
  }
  entry.ready = true;
  --buckets_[entry.bucket].missing;
}

void GradientReducer::start_full() {
  for (; next_ < buckets_.size() && buckets_[next_].missing == 0; ++next_)
    buckets_[next_].travelling = group_->start_sum(buckets_[next_].values);
}

void GradientReducer::finish() {
  for (Entry& entry : entries_) take(entry);
  start_full();
  set_aside_ = nullptr;
  for (Bucket& bucket : buckets_) {
    bucket.travelling->wait();
    bucket.travelling.reset();
  }
  for (Entry& entry : entries_) entry.parameter.mutable_grad() = entry.place;
}

}  // namespace brim::detail
