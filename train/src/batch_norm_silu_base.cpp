#define BRIM_LANES 4
#include "batch_norm_silu_simd.h"

namespace brim::detail {
const BatchNormSiluKernels kBatchNormSiluBase = kKernels;
}  // namespace brim::detail
