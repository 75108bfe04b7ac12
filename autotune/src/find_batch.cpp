#include "brim/autotune/find_batch.h"

#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <string_view>
#include <utility>

#include "brim/autotune/probe_process.h"
#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"
#include "measure_steps.h"

namespace brim::autotune {
namespace {

constexpr std::string_view kProbeWord = "--brim-probe";

/// Copies of what a training step changes in a module, put back at the end.
class Preserved {
 public:
  Preserved(torch::nn::Module* module, torch::Device device) : device_(device) {
    if (module == nullptr) return;
    const torch::NoGradGuard no_grad;
    generator_ = brim::detail::generator_state(device);
    for (const torch::Tensor& tensor : module->parameters()) {
      kept_.emplace_back(tensor, tensor.detach().clone());
      gradients_.emplace_back(tensor, tensor.grad());
      tensor.mutable_grad() = torch::Tensor();
    }
    for (const torch::Tensor& tensor : module->buffers())
      kept_.emplace_back(tensor, tensor.detach().clone());
  }
  ~Preserved() {
    const torch::NoGradGuard no_grad;
    for (auto& [live, copy] : kept_) live.copy_(copy);
    for (auto& [live, gradient] : gradients_) live.mutable_grad() = gradient;
    if (generator_.defined()) brim::detail::set_generator_state(device_, generator_);
  }
  Preserved(const Preserved&) = delete;
  Preserved& operator=(const Preserved&) = delete;

  /// What the copies themselves take: no part of the step.
  std::int64_t bytes() const {
    std::int64_t sum = 0;
    for (const auto& [live, copy] : kept_) sum += static_cast<std::int64_t>(copy.nbytes());
    return sum;
  }

 private:
  torch::Device device_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> kept_, gradients_;
  torch::Tensor generator_;
};

/// The allocator's limit for the length of a scope.
class LimitScope {
 public:
  LimitScope(torch::Device device, std::int64_t bytes)
      : device_(device),
        before_(device.is_cpu() ? allocator_statistics().byte_limit : device_limit(device)) {
    set(before_ > 0 ? std::min(before_, bytes) : bytes);
  }
  ~LimitScope() { set(before_); }
  LimitScope(const LimitScope&) = delete;
  LimitScope& operator=(const LimitScope&) = delete;

 private:
  void set(std::int64_t bytes) const {
    device_.is_cpu() ? set_allocator_limit(bytes) : set_device_limit(device_, bytes);
  }
  torch::Device device_;
  std::int64_t before_;
};

Goal with_budget(Goal goal, torch::Device device) {
  if (goal.byte_budget == 0)
    goal.byte_budget =
        device.is_cpu() ? MemoryBudget::make()->limit() : detail::device_capacity(device);
  return goal;
}

/// Bytes of this process that are not the pool's; on a GPU those that libraries have taken.
std::int64_t outside_bytes(torch::Device device) {
  const std::int64_t bytes =
      device.is_cpu() ? read_memory_limits().own_resident - allocator_statistics().reserved
                      : detail::device_capacity(device) - device_memory(device).free -
                            device_use(device).reserved;
  return std::max<std::int64_t>(0, bytes);
}

std::optional<std::int64_t> number_in(const char* text) {
  std::int64_t value = 0;
  const std::string_view word(text);
  const auto result = std::from_chars(word.data(), word.data() + word.size(), value);
  if (result.ec != std::errc() || result.ptr != word.data() + word.size()) return std::nullopt;
  return value;
}

}  // namespace

BatchPlan find_batch(const StepFunction& step, const FindBatchOptions& options) {
  const torch::Device device = options.device;
  require_device(device);
  if (device.is_cpu() && !cpu_allocator_installed()) install_cpu_allocator();
  const Goal goal = with_budget(options.goal, device);
  const Preserved preserved(options.preserve, device);
  const auto probe = [&](std::int64_t batch) {
    brim::detail::release_device_memory(device);
    const std::int64_t cap = goal.byte_budget - goal.loader_bytes(batch) - outside_bytes(device);
    const LimitScope limit(device, std::max<std::int64_t>(cap, 1));
    Measurement found = detail::measure_steps(batch, options.steps, device, [&] { step(batch); });
    found.resident_peak_bytes -= preserved.bytes();
    return found;
  };
  const BatchPlan plan = choose_batch(options.space, goal, probe);
  brim::detail::release_device_memory(device);
  return plan;
}

std::optional<ProbeRequest> take_probe_request(int& argc, char** argv) {
  // ... --brim-probe LIMIT STEPS DEVICE
  if (argc < 5 || argv[argc - 4] != kProbeWord) return std::nullopt;
  const auto limit = number_in(argv[argc - 3]);
  const auto steps = number_in(argv[argc - 2]);
  if (!limit || !steps) return std::nullopt;
  const torch::Device device{std::string(argv[argc - 1])};
  argc -= 4;
  argv[argc] = nullptr;
  enter_probe_process(device.is_cpu() ? *limit : 0);
  if (device.is_cpu())
    install_cpu_allocator({.byte_limit = *limit});
  else if (*limit > 0)
    set_device_limit(device, *limit);
  return ProbeRequest{*limit, static_cast<int>(*steps), device};
}

int answer_probe(const ProbeRequest& request, const StepFunction& step) {
  return serve_probes([&](std::int64_t batch) {
    brim::detail::release_device_memory(request.device);
    return detail::measure_steps(batch, request.steps, request.device, [&] { step(batch); });
  });
}

BatchPlan find_batch_isolated(int argc, char** argv, const FindBatchOptions& options,
                              double timeout_seconds) {
  // A GPU's memory is looked at by the child: a context here would take some of it away.
  const torch::Device device = options.device;
  require_device(device);
  Goal goal = device.is_cpu() ? with_budget(options.goal, device) : options.goal;
  if (device.is_cpu() && goal.own_bytes == 0) goal.own_bytes = outside_bytes(device);
  std::error_code failed;
  ProbeProcessOptions process{
      .executable = std::filesystem::read_symlink("/proc/self/exe", failed).string(),
      .timeout_seconds = timeout_seconds};
  if (failed) throw Error("cannot tell which program this is: " + failed.message());
  for (int i = 1; i < argc; ++i) process.arguments.emplace_back(argv[i]);
  process.arguments.insert(
      process.arguments.end(),
      {std::string(kProbeWord),
       std::to_string(std::max<std::int64_t>(0, goal.byte_budget - goal.loader_bytes(1))),
       std::to_string(options.steps), device.str()});
  ProbeProcess probe(std::move(process));
  return choose_batch(options.space, goal,
                      [&](std::int64_t batch) { return probe.measure(batch); });
}

}  // namespace brim::autotune
