#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>

// What differs between the CPU and a GPU. Everything here exists in every build; where LibTorch has
// no CUDA, and for the CPU, memory functions do nothing and return zeros.

namespace brim {

/// Throws Error naming `key`, with what is missing and one hint, when `device` cannot be used here:
/// LibTorch without CUDA, no GPU, a driver that is too old, no such index, a device brim does not
/// know. Creates no context on the GPU.
void require_device(torch::Device device, const std::string& key = {});

/// `device` with the index it stands for: cuda is the current GPU.
torch::Device with_index(torch::Device device);

/// "NVIDIA H100 80GB HBM3, 79.1 GiB"; "cpu".
std::string describe_device(torch::Device device);

/// Bytes of a GPU's memory as its driver counts them, over all processes. Asking creates this
/// process's context there, which takes some hundred MB itself.
struct DeviceMemory {
  std::int64_t free = 0, total = 0;
};
DeviceMemory device_memory(torch::Device device);

/// What LibTorch's caching allocator holds of a GPU for this process, in bytes.
struct DeviceUse {
  std::int64_t live = 0;           ///< in tensors now
  std::int64_t reserved = 0;       ///< held from the driver now
  std::int64_t peak_live = 0;      ///< since the start or reset_device_peaks()
  std::int64_t peak_reserved = 0;  ///< "
  std::int64_t marked_live = 0;    ///< most in tensors since mark_device_peaks()
  std::int64_t retries = 0;        ///< times cached blocks had to be given back to go on
};
DeviceUse device_use(torch::Device device);
void reset_device_peaks(torch::Device device);
/// Starts `marked_live` anew; the other peaks go on.
void mark_device_peaks(torch::Device device);
/// Most bytes that this process may reserve there, beyond which allocations throw
/// c10::OutOfMemoryError; 0: all there is.
void set_device_limit(torch::Device device, std::int64_t bytes);
/// The limit set, or 0.
std::int64_t device_limit(torch::Device device);
/// Returns the cached blocks of all GPUs to their drivers; creates no context.
void empty_device_cache(torch::Device device);
/// Waits until everything asked of `device` is done.
void synchronize(torch::Device device);

/// Page-aligned host memory that `device` copies from and to by itself, while the CPU goes on: each
/// block is registered with the driver once, at its exact size. For LoaderOptions::slot_memory.
/// Null for the CPU. Where the driver refuses to register a block it is ordinary memory.
std::shared_ptr<std::pmr::memory_resource> pinned_memory(torch::Device device);

}  // namespace brim
