#pragma once

#include "brim/dataloader/torch/libtorch.h"

#include <cstdint>
#include <string>

namespace brim {

/// Number format of activations. Weights, optimiser and losses stay float32.
enum class Precision : std::uint8_t { Auto, Fp32, Bf16, Fp16 };

/// "fp32", "bf16", "fp16", "auto"; throws Error naming `key`.
Precision parse_precision(const std::string& text, const std::string& key = {});
std::string to_string(Precision precision);

/// Decides Auto: fp16 on CUDA, fp32 on the CPU, where bf16 is to be asked for: it halves the memory
/// of activations, and is faster only with matrix units (AMX). Throws Error for what the device
/// cannot do.
Precision resolve_precision(Precision wish, torch::Device device);
/// True where the CPU has instructions for products of bf16 numbers; elsewhere bf16 takes less
/// memory than fp32 and more time.
bool cpu_multiplies_bf16();

/// Autocast on this thread while it lives. `precision` is resolved; Fp32 does nothing.
///
///   { AutocastScope scope(Precision::Bf16, device); output = network->forward(images); }
class AutocastScope {
 public:
  AutocastScope(Precision precision, torch::Device device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  torch::DeviceType device_;
  bool active_;
  bool was_enabled_ = false;
  torch::ScalarType was_dtype_ = torch::kFloat;
};

struct GradScalerOptions {
  bool enabled = true;  ///< false: scale 1 for ever
  double initial_scale = 65536.0;
  double growth = 2.0;
  double backoff = 0.5;
  std::int64_t growth_interval = 2000;  ///< steps without overflow before the scale grows
};

/// Loss scale for fp16 (Micikevicius et al. 2018). Multiply the loss by `scale()`; the optimiser
/// divides it out and says whether all gradients were finite; tell that to `update`. Device-free.
class GradScaler {
 public:
  explicit GradScaler(const GradScalerOptions& options = {.enabled = false});
  double scale() const { return scale_; }
  bool enabled() const { return options_.enabled; }
  void update(bool finite);

  struct State {
    double scale = 1;
    std::int64_t good_steps = 0;
  };
  State state() const { return {scale_, good_steps_}; }
  void load(const State& state);

 private:
  GradScalerOptions options_;
  double scale_;
  std::int64_t good_steps_ = 0;
};

}  // namespace brim
