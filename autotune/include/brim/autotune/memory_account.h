#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brim/autotune/training_probe.h"
#include "brim/train/allocation_trace.h"

namespace brim::autotune {

/// What a layer keeps from its forward pass until its backward pass has run.
struct LayerBytes {
  std::string name;
  std::int64_t bytes = 0;
};

/// Where the bytes of a training step are, at its worst moment. They add up to total().
struct MemoryAccount {
  std::int64_t batch = 0, image_size = 0;
  std::int64_t parameters = 0, buffers = 0, gradients = 0, optimizer = 0, ema = 0;
  std::int64_t input = 0;        ///< the batch itself, bytes and floats
  std::int64_t activations = 0;  ///< all layers
  std::int64_t workspace = 0;    ///< what forward pass and loss take beyond that at their peak
  std::int64_t gaps = 0;     ///< between the pool's blocks: reserved, and not in use at the peak
  std::int64_t loader = 0;   ///< batches made ahead, scratch; given by the caller
  std::int64_t runtime = 0;  ///< program, libraries, oneDNN: resident outside the pool
  std::vector<LayerBytes> layers{};
  AllocationTrace trace{};  ///< of the steps
  std::int64_t fixed() const { return parameters + buffers + gradients + optimizer + ema; }
  std::int64_t total() const {
    return fixed() + input + activations + workspace + gaps + loader + runtime;
  }
};

/// Runs two training steps of `batch` images in this process under brim's CPU allocator (installed
/// if it is not yet) and books what each part takes, layer by layer. Throws what the step throws.
MemoryAccount account_training(const std::function<ProbeSubject()>& make, std::int64_t batch);

/// The account for another size and batch: what grew between two accounts of the same training goes
/// on growing with the pixels, the rest stays; gaps are those of the steps' allocations played at
/// that size. Good to a few percent from images of 128 pixels upwards.
MemoryAccount scale_account(const MemoryAccount& fewer_pixels, const MemoryAccount& more_pixels,
                            std::int64_t image_size, std::int64_t batch);

}  // namespace brim::autotune
