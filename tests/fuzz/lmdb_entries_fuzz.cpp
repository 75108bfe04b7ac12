// LMDB files: any bytes in one, and a sound one changed at any places, serve nothing wrong,
// crash nothing, and are filled again.
#include <cstdlib>
#include <string>

#include "support/damaged_store.h"

namespace {

void look(const std::string& bytes, const brim::test::DamagedStore& store) {
  if (store.look(bytes) < 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Made once, and left to the end of the process.
  static const auto* store = new brim::test::DamagedStore(brim::test::small_stores().at(1));
  if (size > 4096) look({reinterpret_cast<const char*>(data), size}, *store);
  look(brim::test::patched(store->sound(), data, size), *store);
  return 0;
}
