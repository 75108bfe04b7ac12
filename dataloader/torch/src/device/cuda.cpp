// Builds whose LibTorch has CUDA.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
#include <new>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/torch/device.h"

namespace brim {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

constexpr std::size_t kMostDevices = 64;
constexpr std::size_t kAll = 0;  // of the allocator's statistics: all pools together

/// What LibTorch does not keep per device.
struct Kept {
  std::int64_t peak_live = 0, peak_reserved = 0;  // before the last mark
  std::int64_t limit = 0;
};

Kept& kept_of(torch::Device device) {
  static std::array<Kept, kMostDevices> all;
  return all.at(static_cast<std::size_t>(device.index()));
}

std::mutex& kept_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// The device with its allocator in being.
torch::Device prepared(torch::Device device) {
  device = with_index(device);
  torch::empty({0}, torch::TensorOptions().device(device));
  return device;
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

[[noreturn]] void throw_unusable(cudaError_t code, const std::string& key) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const Where where{.file = {}, .line = 0, .key = key};
  if (code == cudaErrorInsufficientDriver && driver > 0)
    throw Error("the NVIDIA driver knows CUDA " + version_text(driver) +
                    ", this build's LibTorch needs CUDA " + version_text(CUDART_VERSION),
                where, "update the driver, or build with a LibTorch for an older CUDA");
  if (driver == 0)
    throw Error("no NVIDIA driver is loaded here", where,
                "use --device cpu, or install the driver (nvidia-smi should answer)");
  if (code == cudaSuccess || code == cudaErrorNoDevice)
    throw Error("no CUDA device is visible here", where,
                "use --device cpu, or check nvidia-smi and CUDA_VISIBLE_DEVICES");
  throw Error(std::string("the CUDA device cannot be used: ") + cudaGetErrorString(code), where,
              "use --device cpu, or check nvidia-smi");
}

/// Ordinary memory that is registered with the driver while it is in use.
class PinnedMemory final : public std::pmr::memory_resource {
 public:
  explicit PinnedMemory(torch::Device device) : device_(device) {}

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    void* data = ::operator new (bytes, std::align_val_t{alignment});
    const c10::cuda::CUDAGuard guard(device_);
    if (cudaHostRegister(data, bytes, cudaHostRegisterPortable) != cudaSuccess)
      cudaGetLastError();  // copies are then made through the driver's own buffer
    return data;
  }
  void do_deallocate(void* data, std::size_t /*bytes*/, std::size_t alignment) override {
    if (cudaHostUnregister(data) != cudaSuccess) cudaGetLastError();
    ::operator delete (data, std::align_val_t{alignment});
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  torch::Device device_;
};

}  // namespace

void require_device(torch::Device device, const std::string& key) {
  if (device.is_cpu()) return;
  const Where where{.file = {}, .line = 0, .key = key};
  if (!device.is_cuda()) throw Error("brim trains on cpu and cuda, not on " + device.str(), where);
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) cudaGetLastError();
  if (code != cudaSuccess || count == 0) throw_unusable(code, key);
  if (device.index() >= count)
    throw Error("there is no " + device.str() + " here, only " +
                    (count == 1 ? "cuda:0" : "cuda:0 to cuda:" + std::to_string(count - 1)),
                where, "CUDA_VISIBLE_DEVICES decides which GPUs a process sees");
}

torch::Device with_index(torch::Device device) {
  if (!device.is_cuda() || device.has_index()) return device;
  int current = 0;
  cudaGetDevice(&current);
  return {device.type(), static_cast<c10::DeviceIndex>(current)};
}

std::string describe_device(torch::Device device) {
  if (!device.is_cuda()) return device.str();
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, with_index(device).index()) != cudaSuccess) {
    cudaGetLastError();
    return device.str();
  }
  return std::string(properties.name) + ", " +
         format_bytes(static_cast<std::int64_t>(properties.totalGlobalMem));
}

DeviceMemory device_memory(torch::Device device) {
  if (!device.is_cuda()) return {};
  const c10::cuda::CUDAGuard guard(prepared(device));
  std::size_t free = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

DeviceUse device_use(torch::Device device) {
  if (!device.is_cuda()) return {};
  device = prepared(device);
  const auto statistics = allocator::getDeviceStats(device.index());
  const auto& live = statistics.allocated_bytes[kAll];
  const auto& reserved = statistics.reserved_bytes[kAll];
  const std::lock_guard lock(kept_mutex());
  const Kept& kept = kept_of(device);
  return {live.current,
          reserved.current,
          std::max<std::int64_t>(kept.peak_live, live.peak),
          std::max<std::int64_t>(kept.peak_reserved, reserved.peak),
          live.peak,
          statistics.num_alloc_retries};
}

void reset_device_peaks(torch::Device device) {
  if (!device.is_cuda()) return;
  device = prepared(device);
  const std::lock_guard lock(kept_mutex());
  kept_of(device).peak_live = kept_of(device).peak_reserved = 0;
  allocator::resetPeakStats(device.index());
}

void mark_device_peaks(torch::Device device) {
  if (!device.is_cuda()) return;
  const DeviceUse use = device_use(device);
  device = with_index(device);
  const std::lock_guard lock(kept_mutex());
  kept_of(device).peak_live = use.peak_live;
  kept_of(device).peak_reserved = use.peak_reserved;
  allocator::resetPeakStats(device.index());
}

void set_device_limit(torch::Device device, std::int64_t bytes) {
  if (!device.is_cuda()) return;
  const auto total = static_cast<double>(device_memory(device).total);
  device = with_index(device);
  const double share = bytes > 0 ? std::min(1.0, static_cast<double>(bytes) / total) : 1.0;
  allocator::setMemoryFraction(share, device.index());
  const std::lock_guard lock(kept_mutex());
  kept_of(device).limit = bytes;
}

std::int64_t device_limit(torch::Device device) {
  if (!device.is_cuda()) return 0;
  const std::lock_guard lock(kept_mutex());
  return kept_of(with_index(device)).limit;
}

void empty_device_cache(torch::Device device) {
  if (device.is_cuda()) allocator::emptyCache();
}

void synchronize(torch::Device device) {
  if (!device.is_cuda()) return;
  const c10::cuda::CUDAGuard guard(with_index(device));
  C10_CUDA_CHECK(cudaDeviceSynchronize());
}

std::shared_ptr<std::pmr::memory_resource> pinned_memory(torch::Device device) {
  if (!device.is_cuda()) return nullptr;
  return std::make_shared<PinnedMemory>(prepared(device));
}

}  // namespace brim
