#define BRIM_LANES 8
#include "batch_norm_silu_simd.h"

namespace brim::detail {
const BatchNormSiluKernels kBatchNormSiluAvx2 = kKernels;
}  // namespace brim::detail
