#include "brim/train/weights.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <unordered_map>

#include "brim/cache/error.h"
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

/// Whether a state_dict may refer to `name`.
bool harmless(const std::string& name) {
  return name == "collections.OrderedDict" || name.starts_with("torch._utils._rebuild_tensor") ||
         (name.starts_with("torch.") && name.ends_with("Storage"));
}

[[noreturn]] void explain(const std::vector<detail::ZipEntry>& entries, const std::string& path,
                          const std::string& reason) {
  for (const auto& entry : entries) {
    if (!entry.name.ends_with("data.pkl")) continue;
    const auto globals = detail::pickle_globals(entry.data);
    const auto found = std::find_if_not(globals.begin(), globals.end(), harmless);
    if (found != globals.end())
      throw Error("holds a Python object (" + *found + "), expected a state_dict", in_file(path),
                  conversion(path));
  }
  throw Error("is no file of weights: " + reason.substr(0, reason.find('\n')), in_file(path),
              "expected what Python's torch.save(model.state_dict(), path) writes");
}

torch::IValue unpickle(const std::vector<char>& bytes, const std::string& path) {
  const std::string_view view(bytes.data(), bytes.size());
  if (view.starts_with("\x80\x02"))
    throw Error("is in the format of PyTorch before 1.6", in_file(path),
                "write it anew: python3 -c \"import torch; torch.save(torch.load('" + path +
                    "', map_location='cpu', weights_only=False), '" + path + "')\"");
  if (!view.starts_with("PK\x03\x04"))
    throw Error("is no PyTorch file", in_file(path),
                "expected what Python's torch.save(model.state_dict(), path) writes");
  const auto entries = detail::read_zip(view, path);
  try {
    return torch::pickle_load(bytes);
  } catch (const c10::Error& e) {
    explain(entries, path, e.what_without_backtrace());
  } catch (const std::exception& e) {
    explain(entries, path, e.what());
  }
}

using Dictionary = c10::Dict<torch::IValue, torch::IValue>;

StateDict tensors_of(const Dictionary& dictionary) {
  StateDict result;
  for (const auto& entry : dictionary)
    if (entry.key().isString() && entry.value().isTensor())
      result.emplace_back(entry.key().toStringRef(), entry.value().toTensor());
  return result;
}

/// Checkpoints keep the weights in a dictionary inside; the averaged ones are preferred.
std::optional<Dictionary> inner_dictionary(const Dictionary& dictionary) {
  constexpr std::array<const char*, 4> kNames{"ema", "model", "state_dict", "model_state_dict"};
  for (const char* name : kNames) {
    const auto found = dictionary.find(torch::IValue(name));
    if (found != dictionary.end() && found->value().isGenericDict() &&
        !found->value().toGenericDict().empty())
      return found->value().toGenericDict();
  }
  return std::nullopt;
}

}  // namespace

StateDict state_dict(const torch::nn::Module& module) {
  StateDict result;
  collect(module, "", result);
  return result;
}

StateDict read_state_dict(const std::string& path) {
  const torch::IValue value = unpickle(detail::read_bytes(path), path);
  if (!value.isGenericDict())
    throw Error("holds " + value.tagKind() + ", expected a dictionary of tensors", in_file(path));
  Dictionary dictionary = value.toGenericDict();
  StateDict state = tensors_of(dictionary);
  for (auto inner = inner_dictionary(dictionary); inner; inner = inner_dictionary(*inner)) {
    state = tensors_of(*inner);
    if (!state.empty()) break;
  }
  if (state.empty()) throw Error("holds no tensors by name", in_file(path), conversion(path));
  const std::string prefix = "module.";
  if (std::all_of(state.begin(), state.end(),
                  [&](const auto& entry) { return entry.first.starts_with(prefix); }))
    for (auto& entry : state) entry.first.erase(0, prefix.size());
  return state;
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
