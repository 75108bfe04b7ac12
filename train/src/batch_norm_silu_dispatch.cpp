#include "batch_norm_silu_kernels.h"

namespace brim::detail {
namespace {

enum class Level { Base, Avx2, Avx512 };

Level detect_level() {
#ifdef BRIM_X86_KERNELS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return Level::Avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Level::Avx2;
#endif
  return Level::Base;
}

}  // namespace

const BatchNormSiluKernels* batch_norm_silu_kernels(std::int64_t channels) {
  static const Level level = detect_level();
#ifdef BRIM_X86_KERNELS
  if (level == Level::Avx512 && channels % 16 == 0) return &kBatchNormSiluAvx512;
  if (level != Level::Base && channels % 8 == 0) return &kBatchNormSiluAvx2;
#endif
  return channels % 4 == 0 && level >= Level::Base ? &kBatchNormSiluBase : nullptr;
}

}  // namespace brim::detail
