#define BRIM_LANES 16
#include "batch_norm_silu_simd.h"

namespace brim::detail {
const BatchNormSiluKernels kBatchNormSiluAvx512 = kKernels;
}  // namespace brim::detail
