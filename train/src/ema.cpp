#include "brim/train/ema.h"

#include <cmath>

#include "brim/cache/error.h"
#include "optimizer_kernels.h"
#include "tensor_layout.h"

namespace brim {

ModelEma::ModelEma(torch::nn::Module& network, const EmaOptions& options) : options_(options) {
  const torch::NoGradGuard no_grad;
  const auto add = [this](const std::string& name, const torch::Tensor& live) {
    by_tensor_[live.unsafeGetTensorImpl()] = entries_.size();
    entries_.push_back({name, live, live.detach().clone(torch::MemoryFormat::Preserve)});
  };
  for (const auto& item : network.named_parameters()) add(item.key(), item.value());
  for (const auto& item : network.named_buffers()) add(item.key(), item.value());
}

double ModelEma::decay_at(std::int64_t update) const {
  return options_.decay * (1.0 - std::exp(-static_cast<double>(update) / options_.tau));
}

void ModelEma::update() {
  const torch::NoGradGuard no_grad;
  const double decay = decay_at(++updates_);
  update_others(std::vector<char>(entries_.size(), 0), decay);
}

void ModelEma::update_others(const std::vector<char>& done, double decay) {
  std::vector<torch::Tensor> averages, lives;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (done[i] != 0) continue;
    Entry& entry = entries_[i];
    const torch::Tensor& live = entry.live;
    if (!live.is_floating_point()) {
      entry.average.copy_(live);
    } else if (detail::is_plain_float(live) && detail::is_plain_float(entry.average) &&
               detail::same_order(live, entry.average)) {
      detail::average_step(entry.average.data_ptr<float>(), live.data_ptr<float>(), live.numel(),
                           static_cast<float>(decay), static_cast<float>(1.0 - decay));
    } else {
      averages.push_back(entry.average);
      lives.push_back(live.detach());
    }
  }
  if (averages.empty()) return;
  at::_foreach_mul_(averages, decay);
  at::_foreach_add_(averages, lives, 1.0 - decay);
}

ModelEma::Entry* ModelEma::find(const torch::Tensor& live) {
  const auto found = by_tensor_.find(live.unsafeGetTensorImpl());
  return found == by_tensor_.end() ? nullptr : &entries_[found->second];
}

TensorMap ModelEma::state() const {
  TensorMap state;
  for (const Entry& entry : entries_) state.emplace(entry.name, entry.average);
  return state;
}

void ModelEma::load(const TensorMap& state, std::int64_t updates) {
  const torch::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    const auto found = state.find(entry.name);
    if (found == state.end()) throw Error("the averaged weights lack '" + entry.name + "'");
    if (found->second.sizes() != entry.average.sizes())
      throw Error("the averaged weight '" + entry.name + "' has another shape");
    entry.average.copy_(found->second);
  }
  updates_ = updates;
}

void ModelEma::exchange() {
  for (Entry& entry : entries_) {
    const torch::Tensor kept = entry.average;
    entry.average = entry.live.detach();  // a look at the live storage
    entry.live.set_data(kept);
  }
}

}  // namespace brim
