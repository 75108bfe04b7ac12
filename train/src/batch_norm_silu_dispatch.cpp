#include "batch_norm_silu_kernels.h"

namespace brim::detail {
namespace {

enum class InstructionSet { Base, Avx2, Avx512 };

InstructionSet detect() {
#ifdef BRIM_X86_KERNELS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return InstructionSet::Avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::Avx2;
#endif
  return InstructionSet::Base;
}

}  // namespace

const BatchNormSiluKernels* batch_norm_silu_kernels(std::int64_t channels) {
  static const InstructionSet level = detect();
#ifdef BRIM_X86_KERNELS
  if (level == InstructionSet::Avx512 && channels % 16 == 0) return &kBatchNormSiluAvx512;
  if (level != InstructionSet::Base && channels % 8 == 0) return &kBatchNormSiluAvx2;
#endif
  return channels % 4 == 0 && level >= InstructionSet::Base ? &kBatchNormSiluBase : nullptr;
}

}  // namespace brim::detail
