#include "optimizer_kernels.h"

#include <cmath>

// Built at -O3 (see CMakeLists.txt), so that the loops become vector code; one clone per
// instruction set, chosen when the program starts. No fused multiply-add: all clones agree.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define BRIM_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define BRIM_CLONES
#endif

namespace brim::detail {

BRIM_CLONES void sgd_step(float* __restrict weight, const float* __restrict gradient,
                          float* __restrict momentum, float* __restrict average, std::int64_t n,
                          const SgdNumbers& numbers) {
  const SgdNumbers k = numbers;
  if (average != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) {
      const float g = gradient[i] * k.gradient_factor + k.weight_decay * weight[i];
      const float m = k.momentum * momentum[i] + g;
      const float w = weight[i] - k.learning_rate * (g + k.momentum * m);
      momentum[i] = m;
      weight[i] = w;
      average[i] = average[i] * k.ema_decay + k.ema_rest * w;
    }
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * k.gradient_factor + k.weight_decay * weight[i];
    const float m = k.momentum * momentum[i] + g;
    momentum[i] = m;
    weight[i] = weight[i] - k.learning_rate * (g + k.momentum * m);
  }
}

BRIM_CLONES void adam_step(float* __restrict weight, const float* __restrict gradient,
                           float* __restrict first, float* __restrict second,
                           float* __restrict average, std::int64_t n, const AdamNumbers& numbers) {
  const AdamNumbers k = numbers;
  for (std::int64_t i = 0; i < n; ++i) {
    const float w = weight[i] * k.decoupled;
    const float g = gradient[i] * k.gradient_factor + k.weight_decay * w;
    const float m = k.beta1 * first[i] + k.rest1 * g;
    const float v = k.beta2 * second[i] + k.rest2 * g * g;
    first[i] = m;
    second[i] = v;
    weight[i] = w - k.step_size * (m / (std::sqrt(v) / k.root_correction + k.epsilon));
  }
  if (average == nullptr) return;
  for (std::int64_t i = 0; i < n; ++i)
    average[i] = average[i] * k.ema_decay + k.ema_rest * weight[i];
}

BRIM_CLONES void average_step(float* __restrict average, const float* __restrict value,
                              std::int64_t n, float decay, float rest) {
  for (std::int64_t i = 0; i < n; ++i) average[i] = average[i] * decay + rest * value[i];
}

BRIM_CLONES double sum_of_squares(const float* values, std::int64_t n) {
  constexpr int kLanes = 16;
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  for (; i < n; ++i) sum += static_cast<double>(values[i]) * values[i];
  return sum;
}

}  // namespace brim::detail
