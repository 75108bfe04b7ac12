#pragma once

#include <cstdint>

namespace brim::detail {

/// Numbers of one update, already in float where the arithmetic is float.
struct SgdNumbers {
  float gradient_factor;  ///< clipping, loss scale and averaging in one
  float weight_decay, momentum, learning_rate;
  float ema_decay;  ///< used where an average is given
  float ema_rest;   ///< 1 - ema_decay, rounded once
};

struct AdamNumbers {
  float gradient_factor;
  float weight_decay;  ///< added to the gradient (Adam)
  float decoupled;     ///< 1 - lr * decay, multiplied into the weight (AdamW), else 1
  float beta1, beta2, rest1, rest2;
  float step_size;        ///< lr / (1 - beta1^t)
  float root_correction;  ///< sqrt(1 - beta2^t)
  float epsilon;
  float ema_decay, ema_rest;
};

/// One pass over [0, n): decay, momentum (Nesterov), update and, where `average` is not null, the
/// moving average of the updated weight.
void sgd_step(float* weight, const float* gradient, float* momentum, float* average, std::int64_t n,
              const SgdNumbers& numbers);
void adam_step(float* weight, const float* gradient, float* first, float* second, float* average,
               std::int64_t n, const AdamNumbers& numbers);
/// average = decay * average + rest * value.
void average_step(float* average, const float* value, std::int64_t n, float decay, float rest);
/// Sum of squares in double, in an order that depends on `n` alone.
double sum_of_squares(const float* values, std::int64_t n);

}  // namespace brim::detail
