#pragma once

#include <memory>
#include <string>

#include "brim/cache/stores.h"

namespace brim::detail {

/// The store over the machine's shared memory; null where nothing can be shared, `why_not` says
/// why.
std::shared_ptr<Store> make_shared_ram_store(const RamStoreOptions& options, std::string& why_not);

}  // namespace brim::detail
