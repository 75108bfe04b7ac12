#include "brim/train/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "brim/cache/error.h"
#include "optimizer_kernels.h"
#include "tensor_layout.h"

namespace brim {
namespace {
constexpr std::int64_t kPiece = 16384;  // elements; 64 KiB of each array
constexpr double kClipEpsilon = 1e-6;   // as torch's clip_grad_norm_

GroupRole role_of(const std::string& name, const torch::Tensor& parameter) {
  const std::string last = name.substr(name.rfind('.') + 1);
  if (last == "bias") return GroupRole::Bias;
  return parameter.dim() <= 1 ? GroupRole::Norm : GroupRole::Weight;
}

const torch::Tensor& entry(const TensorMap& state, const std::string& name,
                           const torch::Tensor& like) {
  const auto found = state.find(name);
  if (found == state.end()) throw Error("the optimiser state lacks '" + name + "'");
  if (found->second.sizes() != like.sizes())
    throw Error("the optimiser state '" + name + "' has another shape");
  return found->second;
}
}  // namespace

OptimizerKind parse_optimizer(const std::string& text, const std::string& key) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const OptimizerKind kind : {OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::AdamW}) {
    if (lower == to_string(kind)) return kind;
  }
  throw Error("unknown optimiser '" + text + "'", {.file = {}, .line = 0, .key = key},
              "one of sgd, adam, adamw");
}

std::string to_string(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::Sgd:
      return "sgd";
    case OptimizerKind::Adam:
      return "adam";
    case OptimizerKind::AdamW:
      return "adamw";
  }
  return "sgd";
}

Optimizer::Optimizer(torch::nn::Module& network, const OptimizerOptions& options)
    : options_(options) {
  const torch::NoGradGuard no_grad;
  const bool adam = options.kind != OptimizerKind::Sgd;
  for (const auto& named : network.named_parameters()) {
    const torch::Tensor& parameter = named.value();
    if (!parameter.requires_grad()) continue;
    const auto zeros = [&] { return torch::zeros_like(parameter.detach()); };
    items_.push_back({named.key(), parameter, role_of(named.key(), parameter), zeros(),
                      adam ? zeros() : torch::Tensor()});
    if (!detail::is_plain_float(parameter)) continue;
    const auto item = static_cast<std::int32_t>(items_.size() - 1);
    for (std::int64_t begin = 0; begin < parameter.numel(); begin += kPiece)
      pieces_.push_back({item, begin, std::min(begin + kPiece, parameter.numel())});
  }
  if (items_.empty()) throw Error("no parameter is left to train", {}, "freeze fewer layers");
  partial_.resize(pieces_.size());
}

std::array<std::int64_t, kGroups> Optimizer::group_sizes() const {
  std::array<std::int64_t, kGroups> sizes{};
  for (const Item& item : items_) ++sizes[static_cast<std::size_t>(item.role)];
  return sizes;
}

void Optimizer::zero_grad() {
  for (Item& item : items_) item.parameter.mutable_grad() = torch::Tensor();
}

/// Sum of squares of all gradients. Where a gradient lies in another order than its parameter, it
/// is replaced by one that does not.
double Optimizer::total_norm(std::vector<torch::Tensor>& gradients) const {
  std::vector<torch::Tensor> others;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    torch::Tensor& gradient = gradients[i];
    if (!gradient.defined()) continue;
    const torch::Tensor& parameter = items_[i].parameter;
    if (!detail::is_plain_float(parameter)) {
      others.push_back(gradient);
    } else if (!detail::is_plain_float(gradient) || !detail::same_order(gradient, parameter)) {
      gradient = torch::empty_like(parameter).copy_(gradient);
    }
  }
  at::parallel_for(
      0, static_cast<std::int64_t>(pieces_.size()), 1, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t p = first; p < last; ++p) {
          const Piece& piece = pieces_[p];
          const torch::Tensor& gradient = gradients[piece.item];
          partial_[p] = gradient.defined()
                            ? detail::sum_of_squares(gradient.data_ptr<float>() + piece.begin,
                                                     piece.end - piece.begin)
                            : 0.0;
        }
      });
  double sum = 0;
  for (const double part : partial_) sum += part;
  if (!others.empty()) {
    const std::vector<torch::Tensor> norms = at::_foreach_norm(others, 2);
    sum += torch::stack(norms).to(torch::kDouble).square().sum().item<double>();
  }
  return std::sqrt(sum);
}

StepResult Optimizer::step(const StepOptions& options) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> gradients;
  gradients.reserve(items_.size());
  for (const Item& item : items_) gradients.push_back(item.parameter.grad());
  StepResult result;
  result.gradient_norm = total_norm(gradients) * std::abs(options.gradient_factor);
  if (!std::isfinite(result.gradient_norm)) return result;
  double factor = options.gradient_factor;
  if (options.max_norm > 0)
    factor *= std::min(1.0, options.max_norm / (result.gradient_norm + kClipEpsilon));
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (gradients[i].defined()) ++items_[i].steps;
  }
  sweep(gradients, factor, options.ema);
  result.stepped = true;
  return result;
}

/// What one piece needs to know of its parameter, prepared once per step.
struct Optimizer::Sweep {
  float* weight = nullptr;
  const float* gradient = nullptr;
  float* first = nullptr;
  float* second = nullptr;
  float* average = nullptr;
  detail::SgdNumbers sgd{};
  detail::AdamNumbers adam{};
};

void Optimizer::sweep(const std::vector<torch::Tensor>& gradients, double factor, ModelEma* ema) {
  const double decay = ema != nullptr ? ema->decay_at(++ema->updates_) : 0.0;
  const auto ema_decay = static_cast<float>(decay);
  const auto ema_rest = static_cast<float>(1.0 - decay);
  std::vector<Sweep> work(items_.size());
  std::vector<char> averaged(ema != nullptr ? ema->entries_.size() : 0, 0);
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    if (!gradients[i].defined()) continue;
    if (!detail::is_plain_float(item.parameter)) {
      others.push_back(i);
      continue;
    }
    Sweep& sweep = work[i];
    sweep.weight = item.parameter.data_ptr<float>();
    sweep.gradient = gradients[i].data_ptr<float>();
    sweep.first = item.first.data_ptr<float>();
    if (ModelEma::Entry* average = ema != nullptr ? ema->find(item.parameter) : nullptr;
        average != nullptr && detail::is_plain_float(average->average) &&
        detail::same_order(average->average, item.parameter)) {
      sweep.average = average->average.data_ptr<float>();
      averaged[static_cast<std::size_t>(average - ema->entries_.data())] = 1;
    }
    const double rate = rates_[static_cast<std::size_t>(item.role)];
    if (options_.kind == OptimizerKind::Sgd) {
      sweep.sgd = {static_cast<float>(factor),
                   static_cast<float>(decay_of(item.role)),
                   static_cast<float>(options_.momentum),
                   static_cast<float>(rate),
                   ema_decay,
                   ema_rest};
      continue;
    }
    sweep.second = item.second.data_ptr<float>();
    const bool decoupled = options_.kind == OptimizerKind::AdamW;
    const auto t = static_cast<double>(item.steps);
    sweep.adam = {static_cast<float>(factor),
                  static_cast<float>(decoupled ? 0.0 : decay_of(item.role)),
                  static_cast<float>(decoupled ? 1.0 - rate * decay_of(item.role) : 1.0),
                  static_cast<float>(options_.momentum),
                  static_cast<float>(options_.beta2),
                  static_cast<float>(1.0 - options_.momentum),
                  static_cast<float>(1.0 - options_.beta2),
                  static_cast<float>(rate / (1.0 - std::pow(options_.momentum, t))),
                  static_cast<float>(std::sqrt(1.0 - std::pow(options_.beta2, t))),
                  static_cast<float>(options_.epsilon),
                  ema_decay,
                  ema_rest};
  }
  at::parallel_for(
      0, static_cast<std::int64_t>(pieces_.size()), 1, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t p = first; p < last; ++p) {
          const Piece& piece = pieces_[p];
          const Sweep& s = work[piece.item];
          if (s.weight == nullptr) continue;
          const std::int64_t at = piece.begin, n = piece.end - piece.begin;
          float* average = s.average != nullptr ? s.average + at : nullptr;
          if (s.second == nullptr) {
            detail::sgd_step(s.weight + at, s.gradient + at, s.first + at, average, n, s.sgd);
          } else {
            detail::adam_step(s.weight + at, s.gradient + at, s.first + at, s.second + at, average,
                              n, s.adam);
          }
        }
      });
  step_by_operators(others, gradients, factor);
  if (ema != nullptr) ema->update_others(averaged, decay);
}

void Optimizer::step_by_operators(const std::vector<std::size_t>& chosen,
                                  const std::vector<torch::Tensor>& gradients, double factor) {
  struct Group {
    std::vector<torch::Tensor> weights{}, gradients{}, first{}, second{};
  };
  std::map<std::pair<GroupRole, std::int64_t>, Group> groups;
  for (const std::size_t i : chosen) {
    Item& item = items_[i];
    Group& group = groups[{item.role, item.steps}];
    group.weights.push_back(item.parameter.detach());
    group.gradients.push_back(gradients[i].to(item.parameter.scalar_type()));
    group.first.push_back(item.first);
    if (item.second.defined()) group.second.push_back(item.second);
  }
  for (auto& [key, group] : groups) {
    const auto& [role, steps] = key;
    const double rate = rates_[static_cast<std::size_t>(role)];
    const double decay = decay_of(role);
    std::vector<torch::Tensor> g = at::_foreach_mul(group.gradients, factor);
    if (options_.kind == OptimizerKind::AdamW) {
      at::_foreach_mul_(group.weights, 1.0 - rate * decay);
    } else if (decay != 0) {
      at::_foreach_add_(g, group.weights, decay);
    }
    at::_foreach_mul_(group.first, options_.momentum);
    if (options_.kind == OptimizerKind::Sgd) {
      at::_foreach_add_(group.first, g);
      at::_foreach_add_(g, group.first, options_.momentum);
      at::_foreach_add_(group.weights, g, -rate);
      continue;
    }
    const auto t = static_cast<double>(steps);
    at::_foreach_add_(group.first, g, 1.0 - options_.momentum);
    at::_foreach_mul_(group.second, options_.beta2);
    at::_foreach_addcmul_(group.second, g, g, 1.0 - options_.beta2);
    std::vector<torch::Tensor> root = at::_foreach_sqrt(group.second);
    at::_foreach_div_(root, std::sqrt(1.0 - std::pow(options_.beta2, t)));
    at::_foreach_add_(root, options_.epsilon);
    at::_foreach_addcdiv_(group.weights, group.first, root,
                          -rate / (1.0 - std::pow(options_.momentum, t)));
  }
}

TensorMap Optimizer::state() const {
  TensorMap state;
  const bool adam = options_.kind != OptimizerKind::Sgd;
  std::vector<std::int64_t> steps;
  for (const Item& item : items_) {
    state.emplace((adam ? "first." : "momentum.") + item.name, item.first);
    if (adam) state.emplace("second." + item.name, item.second);
    steps.push_back(item.steps);
  }
  state.emplace("steps", torch::tensor(steps, torch::kLong));
  return state;
}

void Optimizer::load(const TensorMap& state) {
  const torch::NoGradGuard no_grad;
  const bool adam = options_.kind != OptimizerKind::Sgd;
  const torch::Tensor counts = torch::empty({static_cast<std::int64_t>(items_.size())});
  const torch::Tensor steps = entry(state, "steps", counts).to(torch::kLong).contiguous().cpu();
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    item.first.copy_(entry(state, (adam ? "first." : "momentum.") + item.name, item.first));
    if (adam) item.second.copy_(entry(state, "second." + item.name, item.second));
    item.steps = steps.data_ptr<std::int64_t>()[i];
  }
}

}  // namespace brim
