#include "brim/cache/store.h"

namespace brim {

void Store::will_need(std::span<const CacheKey>) {}

void Store::flush() {}

std::int64_t Store::release(std::int64_t) {
  return 0;
}

std::vector<CacheKey> Store::keys() const {
  return {};
}

std::int64_t Store::background_ns() const {
  return 0;
}

}  // namespace brim
