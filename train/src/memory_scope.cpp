#include "brim/train/memory_scope.h"

#include <malloc.h>

#include <algorithm>

#include "brim/cache/memory_monitor.h"
#include "brim/dataloader/torch/device.h"
#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"

namespace brim {

TrainingScope::~TrainingScope() {
  release();
}

std::int64_t TrainingScope::release() {
  const std::int64_t before = own_private_bytes();
  while (!kept_.empty()) kept_.pop_back();
  detail::clear_autocast_cache();
  empty_device_cache(torch::kCUDA);
  release_cpu_memory();
  malloc_trim(0);
  return std::max<std::int64_t>(0, before - own_private_bytes());
}

}  // namespace brim
