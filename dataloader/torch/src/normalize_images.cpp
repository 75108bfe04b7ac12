#include <ATen/Parallel.h>

#include <array>

#include "brim/dataloader/torch/tensor_batch.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define BRIM_WIDEST_VECTORS \
  __attribute__((optimize("O3"), target_clones("avx512f", "avx2", "default")))
#else
#define BRIM_WIDEST_VECTORS
#endif

namespace brim {
namespace {

constexpr std::int64_t kGrain = 1 << 16;  ///< bytes per task

/// A division is exact to the last bit, whichever width it is done in.
BRIM_WIDEST_VECTORS void scale_bytes(const std::uint8_t* __restrict in, float* __restrict out,
                                     std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]) / 255.0f;
}

template <typename T>
void scale_by_table(const std::uint8_t* in, T* out, std::int64_t count) {
  std::array<T, 256> table;
  for (std::size_t value = 0; value < 256; ++value) {
    table[value] = static_cast<T>(static_cast<float>(value) / 255.0f);
  }
  for (std::int64_t i = 0; i < count; ++i) out[i] = table[in[i]];
}

template <typename T>
void scale_bytes(const std::uint8_t* in, T* out, std::int64_t count) {
  scale_by_table(in, out, count);
}

}  // namespace

torch::Tensor normalize_images(const torch::Tensor& images, torch::ScalarType dtype) {
  TORCH_CHECK(images.dim() == 4 && images.scalar_type() == torch::kByte,
              "images must be uint8 [N, 3, H, W]");
  const torch::Tensor bytes = images.contiguous(torch::MemoryFormat::ChannelsLast);
  torch::Tensor out =
      torch::empty(bytes.sizes(), bytes.options().dtype(dtype), torch::MemoryFormat::ChannelsLast);
  if (!bytes.is_cpu())
    return torch::div_out(out, bytes,
                          torch::full({}, 255.0f, bytes.options().dtype(torch::kFloat)));
  AT_DISPATCH_FLOATING_TYPES_AND2(torch::kHalf, torch::kBFloat16, dtype, "normalize_images", [&] {
    const std::uint8_t* from = bytes.data_ptr<std::uint8_t>();
    scalar_t* to = out.data_ptr<scalar_t>();
    at::parallel_for(0, bytes.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      scale_bytes(from + begin, to + begin, end - begin);
    });
  });
  return out;
}

}  // namespace brim
