#include "brim/train/precision.h"

#include <algorithm>

#include "brim/cache/error.h"
#include "brim/train/compat.h"

namespace brim {
namespace {
constexpr double kLargestScale = 0x1.0p64;
}  // namespace

Precision parse_precision(const std::string& text, const std::string& key) {
  for (const Precision precision :
       {Precision::Auto, Precision::Fp32, Precision::Bf16, Precision::Fp16}) {
    if (text == to_string(precision)) return precision;
  }
  throw Error("unknown precision '" + text + "'", {.file = {}, .line = 0, .key = key},
              "one of fp32, bf16, fp16, auto");
}

std::string to_string(Precision precision) {
  switch (precision) {
    case Precision::Auto:
      return "auto";
    case Precision::Fp32:
      return "fp32";
    case Precision::Bf16:
      return "bf16";
    case Precision::Fp16:
      return "fp16";
  }
  return "auto";
}

Precision resolve_precision(Precision wish, torch::Device device) {
  if (wish == Precision::Auto) return device.is_cuda() ? Precision::Fp16 : Precision::Fp32;
  if (wish == Precision::Fp16 && device.is_cpu())
    throw Error("fp16 training needs a CUDA device; this run is on the CPU",
                {.file = {}, .line = 0, .key = "precision"},
                "use precision bf16 (half the activation memory) or fp32 (faster on most CPUs)");
  return wish;
}

bool cpu_multiplies_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

AutocastScope::AutocastScope(Precision precision, torch::Device device)
    : device_(device.type()),
      active_(precision == Precision::Bf16 || precision == Precision::Fp16) {
  if (!active_) return;
  const detail::AutocastState was = detail::autocast_state(device_);
  was_enabled_ = was.enabled;
  was_dtype_ = was.dtype;
  detail::set_autocast_state(
      device_, {true, precision == Precision::Bf16 ? torch::kBFloat16 : torch::kHalf});
}

AutocastScope::~AutocastScope() {
  if (!active_) return;
  detail::set_autocast_state(device_, {was_enabled_, was_dtype_});
  if (!was_enabled_) detail::clear_autocast_cache();
}

GradScaler::GradScaler(const GradScalerOptions& options)
    : options_(options), scale_(options.enabled ? options.initial_scale : 1.0) {}

void GradScaler::update(bool finite) {
  if (!options_.enabled) return;
  if (!finite) {
    scale_ *= options_.backoff;
    good_steps_ = 0;
  } else if (++good_steps_ >= options_.growth_interval) {
    scale_ = std::min(scale_ * options_.growth, kLargestScale);
    good_steps_ = 0;
  }
}

void GradScaler::load(const State& state) {
  if (!options_.enabled) return;
  scale_ = state.scale;
  good_steps_ = state.good_steps;
}

}  // namespace brim
