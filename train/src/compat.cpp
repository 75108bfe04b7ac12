// The one place where LibTorch versions differ.
#include "brim/train/compat.h"

#include <ATen/autocast_mode.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <array>
#include <mutex>
#include <new>
#include <string_view>

#include "brim/cache/error.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/cpu_allocator.h"

#define BRIM_TORCH_VERSION (TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR)

namespace brim {

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  if (dynamic_cast<const Error*>(&error) != nullptr) return false;
  // Others carry it in their text only.
  static constexpr std::array<std::string_view, 6> kSigns = {
      "out of memory",          "can't allocate memory",      "not enough memory",
      "Cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"};
  const std::string_view text = error.what();
  for (const std::string_view sign : kSigns) {
    if (text.find(sign) != std::string_view::npos) return true;
  }
  return false;
}

namespace detail {

#if BRIM_TORCH_VERSION >= 204
AutocastState autocast_state(torch::DeviceType device) {
  return {at::autocast::is_autocast_enabled(device), at::autocast::get_autocast_dtype(device)};
}

void set_autocast_state(torch::DeviceType device, const AutocastState& state) {
  at::autocast::set_autocast_enabled(device, state.enabled);
  at::autocast::set_autocast_dtype(device, state.dtype);
}
#else
AutocastState autocast_state(torch::DeviceType device) {
  if (device == torch::kCPU)
    return {at::autocast::is_cpu_enabled(), at::autocast::get_autocast_cpu_dtype()};
  return {at::autocast::is_enabled(), at::autocast::get_autocast_gpu_dtype()};
}

void set_autocast_state(torch::DeviceType device, const AutocastState& state) {
  if (device == torch::kCPU) {
    at::autocast::set_cpu_enabled(state.enabled);
    at::autocast::set_autocast_cpu_dtype(state.dtype);
  } else {
    at::autocast::set_enabled(state.enabled);
    at::autocast::set_autocast_gpu_dtype(state.dtype);
  }
}
#endif

void clear_autocast_cache() {
  at::autocast::clear_cache();
}

torch::Tensor generator_state(torch::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(torch::Device device, const torch::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state.cpu());
}

void release_device_memory(torch::Device device) {
  if (device.is_cpu()) release_cpu_memory();
  empty_device_cache(device);
}

}  // namespace detail
}  // namespace brim
