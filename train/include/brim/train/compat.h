#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <exception>

namespace brim {

/// True for every shape in which LibTorch (1.13 to 2.x), oneDNN, CUDA or the C++ runtime say that
/// memory has run out.
bool is_out_of_memory(const std::exception& error);

namespace detail {

/// Autocast of one device type on this thread. LibTorch renamed all of this in 2.4.
struct AutocastState {
  bool enabled = false;
  torch::ScalarType dtype = torch::kBFloat16;
};
AutocastState autocast_state(torch::DeviceType device);
void set_autocast_state(torch::DeviceType device, const AutocastState& state);
/// Drops the cast copies of weights that autocast keeps while nested.
void clear_autocast_cache();

/// State of the default generator of `device` as a byte tensor, and back.
torch::Tensor generator_state(torch::Device device);
void set_generator_state(torch::Device device, const torch::Tensor& state);

/// Returns cached blocks of the device's allocator to the system, where it has one.
void release_device_memory(torch::Device device);

}  // namespace detail
}  // namespace brim
