// Builds whose LibTorch has no CUDA.
#include "brim/cache/error.h"
#include "brim/dataloader/torch/device.h"

namespace brim {

void require_device(torch::Device device, const std::string& key) {
  if (device.is_cpu()) return;
  if (device.is_cuda())
    throw Error("this build's LibTorch has no CUDA", {.file = {}, .line = 0, .key = key},
                "use --device cpu, or build with `make build TORCH=...` of a CUDA LibTorch");
  throw Error("brim trains on cpu and cuda, not on " + device.str(),
              {.file = {}, .line = 0, .key = key});
}

torch::Device with_index(torch::Device device) {
  return device;
}

std::string describe_device(torch::Device device) {
  return device.str();
}

DeviceMemory device_memory(torch::Device /*device*/) {
  return {};
}

DeviceUse device_use(torch::Device /*device*/) {
  return {};
}

void reset_device_peaks(torch::Device /*device*/) {}

void mark_device_peaks(torch::Device /*device*/) {}

void set_device_limit(torch::Device /*device*/, std::int64_t /*bytes*/) {}

std::int64_t device_limit(torch::Device /*device*/) {
  return 0;
}

void empty_device_cache(torch::Device /*device*/) {}

void synchronize(torch::Device /*device*/) {}

std::shared_ptr<std::pmr::memory_resource> pinned_memory(torch::Device /*device*/) {
  return nullptr;
}

}  // namespace brim
