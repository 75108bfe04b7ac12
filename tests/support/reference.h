#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/test_data.h"

// Reading of the reference vectors and the inputs and weights they were computed with; the formulas
// are those of reference/README.md. Header only, so that the support library stays free of
// LibTorch.
namespace brim::test {

using TensorMap = std::map<std::string, torch::Tensor>;

/// The dictionary name -> tensor of a `*.pt` file.
inline TensorMap load_tensors(const std::string& path) {
  const std::string bytes = read_file(path);
  const auto value = torch::pickle_load(std::vector<char>(bytes.begin(), bytes.end()));
  TensorMap result;
  for (const auto& entry : value.toGenericDict())
    result.emplace(entry.key().toStringRef(), entry.value().toTensor());
  return result;
}

inline const torch::Tensor& at(const TensorMap& map, const std::string& name) {
  const auto found = map.find(name);
  if (found == map.end()) throw std::out_of_range("no tensor '" + name + "' in the reference file");
  return found->second;
}

inline std::uint64_t splitmix64(std::uint64_t x) {
  std::uint64_t z = x + 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

/// `n` numbers in [0, 1) of stream `stream`, float32.
inline torch::Tensor uniform(std::int64_t n, std::uint64_t stream) {
  torch::Tensor result = torch::empty({n});
  float* out = result.data_ptr<float>();
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint64_t bits = splitmix64((stream << 32U) + static_cast<std::uint64_t>(i)) >> 40U;
    out[i] = static_cast<float>(bits) / 16777216.0F;
  }
  return result;
}

inline bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// The tensors of a module in the order of Python's state_dict: of each module first its own
/// parameters, then its own buffers, then its children.
inline void collect_state(const torch::nn::Module& module, const std::string& prefix,
                          std::vector<std::pair<std::string, torch::Tensor>>& out) {
  for (const auto& item : module.named_parameters(false))
    out.emplace_back(prefix + item.key(), item.value());
  for (const auto& item : module.named_buffers(false))
    out.emplace_back(prefix + item.key(), item.value());
  for (const auto& item : module.named_children())
    collect_state(*item.value(), prefix + item.key() + ".", out);
}

inline std::vector<std::pair<std::string, torch::Tensor>> state_of(
    const torch::nn::Module& module) {
  std::vector<std::pair<std::string, torch::Tensor>> result;
  collect_state(module, "", result);
  return result;
}

/// Fills every weight of `module` with the deterministic values of the reference.
inline void fill_weights(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  std::uint64_t k = 0;
  for (auto& [name, tensor] : state_of(module)) {
    if (ends_with(name, "anchors") || ends_with(name, "num_batches_tracked")) continue;
    const torch::Tensor u = uniform(tensor.numel(), k++).view(tensor.sizes());
    if (tensor.dim() == 4) {
      const auto fan = static_cast<double>(tensor.size(1) * tensor.size(2) * tensor.size(3));
      tensor.copy_((2 * u - 1) * std::sqrt(6.0 / fan));
    } else if (ends_with(name, "running_var")) {
      tensor.copy_(0.7 + 0.6 * u);
    } else if (ends_with(name, "weight")) {
      tensor.copy_(0.9 + 0.2 * u);
    } else {
      tensor.copy_(0.1 * (2 * u - 1));
    }
  }
}

/// Largest difference over the largest magnitude of `expected` (at least 1e-12).
inline double relative_error(const torch::Tensor& actual, const torch::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) return INFINITY;
  if (expected.numel() == 0) return 0;
  const torch::Tensor a = actual.to(torch::kDouble);
  const torch::Tensor e = expected.to(torch::kDouble);
  return (a - e).abs().max().item<double>() / std::max(e.abs().max().item<double>(), 1e-12);
}

/// A variant with vectors: its name ("yolov5n") and the path of its `*_train_eval.pt`.
struct ReferenceVariant {
  std::string name;
  std::string path;
};

/// Every `yolov5*_train_eval.pt` under reference/yolov5, sorted; empty without test data.
inline std::vector<ReferenceVariant> reference_variants() {
  std::vector<ReferenceVariant> result;
  const auto folder = test_data("reference/yolov5");
  if (!folder) return result;
  const std::string ending = "_train_eval.pt";
  for (const auto& entry : std::filesystem::directory_iterator(*folder)) {
    const std::string file = entry.path().filename().string();
    if (ends_with(file, ending))
      result.push_back({file.substr(0, file.size() - ending.size()), entry.path().string()});
  }
  std::sort(result.begin(), result.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return result;
}

}  // namespace brim::test
