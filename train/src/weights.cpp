#include "brim/train/weights.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <unordered_map>

#include "brim/cache/error.h"
#include "weights_archive.h"
#include "weights_file.h"
#include "weights_pickle.h"

namespace brim {
namespace {

using torch::Tensor;

Where in_file(const std::string& path) {
  return {.file = path, .line = 0, .key = {}};
}

void collect(const torch::nn::Module& module, const std::string& prefix, StateDict& out) {
  for (const auto& item : module.named_parameters(/*recurse=*/false))
    out.emplace_back(prefix + item.key(), item.value());
  for (const auto& item : module.named_buffers(/*recurse=*/false))
    out.emplace_back(prefix + item.key(), item.value());
  for (const auto& item : module.named_children())
    collect(*item.value(), prefix + item.key() + ".", out);
}

std::string conversion(const std::string& path) {
  const std::string target = path.substr(0, path.rfind('.')) + "_state.pt";
  return "convert it once, where its classes can be imported: python3 -c \"import torch; m = "
         "torch.load('" +
         path +
         "', map_location='cpu', weights_only=False); m = (m.get('ema') or m['model']) if "
         "isinstance(m, dict) else m; torch.save(m.float().state_dict(), '" +
         target + "')\"";
}

using detail::PickleNode;
using detail::WeightsArchive;

constexpr const char* kExpected =
    "expected what Python's torch.save(model.state_dict(), path) writes";

WeightsArchive open_archive(std::vector<char> bytes, const std::string& path) {
  const std::string_view view(bytes.data(), bytes.size());
  if (view.starts_with("\x80\x02"))
    throw Error("is in the format of PyTorch before 1.6", in_file(path),
                "write it anew: python3 -c \"import torch; torch.save(torch.load('" + path +
                    "', map_location='cpu', weights_only=False), '" + path + "')\"");
  if (!WeightsArchive::begins(view)) throw Error("is no PyTorch file", in_file(path), kExpected);
  return {std::move(bytes), path};
}

StateDict tensors_of(WeightsArchive& archive, const PickleNode& dict) {
  StateDict result;
  for (const auto& [name, value] : archive.entries(dict))
    if (value->kind == PickleNode::Kind::Tensor) result.emplace_back(name, archive.tensor(*value));
  return result;
}

const char* kind_name(PickleNode::Kind kind) {
  switch (kind) {
    case PickleNode::Kind::Tensor:
      return "a tensor";
    case PickleNode::Kind::List:
      return "a list";
    case PickleNode::Kind::Tuple:
      return "a tuple";
    default:
      return "a single value";
  }
}

[[noreturn]] void refuse_object(const PickleNode& object, const std::string& path) {
  throw Error("holds a Python object (" + std::string(object.text) + "), expected a state_dict",
              in_file(path), conversion(path));
}

bool has_tensors(const WeightsArchive& archive, const PickleNode& dict) {
  const auto entries = archive.entries(dict);
  return std::any_of(entries.begin(), entries.end(), [](const auto& entry) {
    return entry.second->kind == PickleNode::Kind::Tensor;
  });
}

/// The dictionary of weights: what a trainer put under one of the usual names in `dict` (averaged
/// ones are preferred), else `dict` itself. Null where there is none. Throws Error where an object
/// stands in its place. `depth`: a dictionary may hold itself.
const PickleNode* find_weights(const WeightsArchive& archive, const PickleNode& dict,
                               const std::string& path, int depth = 0) {
  constexpr std::array<const char*, 5> kNames{"ema", "model", "state_dict", "model_state_dict",
                                              "module"};
  constexpr int kDeepest = 3;
  const PickleNode* object = nullptr;
  for (const char* name : kNames) {
    const PickleNode* found = depth < kDeepest ? archive.find(dict, name) : nullptr;
    if (found == nullptr) continue;
    if (found->kind == PickleNode::Kind::Object && object == nullptr) object = found;
    if (found->kind != PickleNode::Kind::Dict) continue;
    if (const auto* inner = find_weights(archive, *found, path, depth + 1)) return inner;
  }
  if (object != nullptr) refuse_object(*object, path);
  return has_tensors(archive, dict) ? &dict : nullptr;
}

void drop_prefix(StateDict& state, std::string_view prefix) {
  if (std::all_of(state.begin(), state.end(),
                  [&](const auto& entry) { return entry.first.starts_with(prefix); }))
    for (auto& entry : state) entry.first.erase(0, prefix.size());
}

}  // namespace

StateDict state_dict(const torch::nn::Module& module) {
  StateDict result;
  collect(module, "", result);
  return result;
}

StateDict detail::parse_state_dict(std::vector<char> bytes, const std::string& path) {
  try {
    WeightsArchive archive = open_archive(std::move(bytes), path);
    const PickleNode& root = archive.root();
    if (root.kind == PickleNode::Kind::Object) refuse_object(root, path);
    if (root.kind != PickleNode::Kind::Dict)
      throw Error(
          std::string("holds ") + kind_name(root.kind) + ", expected a dictionary of tensors",
          in_file(path), kExpected);
    const PickleNode* weights = find_weights(archive, root, path);
    if (weights == nullptr)
      throw Error("holds no tensors by name", in_file(path), conversion(path));
    StateDict state = tensors_of(archive, *weights);
    drop_prefix(state, "module.");
    return state;
  } catch (const detail::ArchiveFault& fault) {
    throw Error(std::string("the weights file is cut short or damaged: ") + fault.what(),
                in_file(path), "copy or download it again");
  }
}

StateDict read_state_dict(const std::string& path) {
  return detail::parse_state_dict(detail::read_bytes(path), path);
}

void save_state_dict(const StateDict& state, const std::string& path) {
  detail::write_bytes_atomically(path, detail::pickle_state(state));
}

void save_state_dict(const torch::nn::Module& module, const std::string& path) {
  save_state_dict(state_dict(module), path);
}

double TransferReport::share() const {
  return model_values == 0
             ? 0.0
             : static_cast<double>(transferred_values) / static_cast<double>(model_values);
}

std::string TransferReport::summary() const {
  char percent[32];
  std::snprintf(percent, sizeof percent, "%.1f", 100.0 * share());
  return std::to_string(transferred_tensors) + " of " + std::to_string(model_tensors) +
         " tensors (" + percent + "% of the values); " + std::to_string(other_shape.size()) +
         " of another shape, " + std::to_string(missing.size()) + " missing, " +
         std::to_string(unused.size()) + " not used";
}

namespace {

enum class Mode { Count, Copy };

TransferReport transfer(torch::nn::Module& module, const StateDict& state, Mode mode) {
  torch::NoGradGuard no_grad;
  std::unordered_map<std::string, Tensor> given(state.begin(), state.end());
  TransferReport report;
  for (auto& [name, tensor] : state_dict(module)) {
    ++report.model_tensors;
    report.model_values += tensor.numel();
    const auto found = given.find(name);
    if (found == given.end()) {
      report.missing.push_back(name);
      continue;
    }
    if (found->second.sizes() == tensor.sizes()) {
      if (mode == Mode::Copy) Tensor(tensor).copy_(found->second);
      ++report.transferred_tensors;
      report.transferred_values += tensor.numel();
    } else {
      report.other_shape.push_back(name);
    }
    given.erase(found);
  }
  for (const auto& [name, tensor] : state)
    if (given.count(name) != 0) report.unused.push_back(name);
  return report;
}

}  // namespace

TransferReport transfer_weights(torch::nn::Module& module, const StateDict& state) {
  return transfer(module, state, Mode::Copy);
}

TransferReport load_weights(torch::nn::Module& module, const std::string& path) {
  const StateDict state = read_state_dict(path);
  constexpr double kLeastShare = 0.05;
  const TransferReport fits = transfer(module, state, Mode::Count);
  if (fits.share() < kLeastShare)
    throw Error("the weights are those of another architecture: " + fits.summary() +
                    "; the file begins with '" + state.front().first + "', the model with '" +
                    state_dict(module).front().first + "'",
                in_file(path), "choose the model that the weights were trained for");
  return transfer(module, state, Mode::Copy);
}

}  // namespace brim
