#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace brim {

/// Names and tensors in the order of Python's `state_dict()`: of each module its parameters, then
/// its buffers, then its children.
using StateDict = std::vector<std::pair<std::string, torch::Tensor>>;

/// The tensors of `module` themselves (not copies).
StateDict state_dict(const torch::nn::Module& module);

/// Reads what Python's `torch.save(model.state_dict(), path)` or `save_state_dict` wrote. A
/// dictionary that holds the weights under "ema", "model", "state_dict" or "model_state_dict" works
/// as well; "module." before every name is dropped. Throws Error for a missing, cut short or
/// damaged file, and for a pickled model object (with the line of Python that converts it).
StateDict read_state_dict(const std::string& path);

/// Writes `state` so that Python's `torch.load` reads it: contiguous, on the CPU, atomically (a
/// crash leaves the old file or the new one). Throws Error where the file cannot be written.
void save_state_dict(const StateDict& state, const std::string& path);
void save_state_dict(const torch::nn::Module& module, const std::string& path);

/// What a transfer of weights did.
struct TransferReport {
  std::int64_t model_tensors = 0;
  std::int64_t model_values = 0;
  std::int64_t transferred_tensors = 0;
  std::int64_t transferred_values = 0;
  std::vector<std::string> other_shape{};  ///< in both, but of another shape
  std::vector<std::string> missing{};      ///< in the model alone
  std::vector<std::string> unused{};       ///< in the file alone

  /// Transferred values over the model's, 0 to 1.
  double share() const;
  /// "343 of 349 tensors (94.4% of the values); 6 of another shape, 0 missing, 0 not used".
  std::string summary() const;
};

/// Copies into `module` each tensor of the same name and shape, converting its type and device.
TransferReport transfer_weights(torch::nn::Module& module, const StateDict& state);

/// read_state_dict and transfer_weights. Throws Error when less than 5% of the model's values fit:
/// the weights are those of another architecture; the model is then unchanged.
TransferReport load_weights(torch::nn::Module& module, const std::string& path);

}  // namespace brim
