// Disk segments: any bytes in one, and a sound one changed at any places, serve nothing wrong,
// crash nothing, and are filled again.
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include "brim/cache/key.h"
#include "support/damaged_store.h"

namespace {

/// Gives header and records the checksums they should have, so that what lies behind is reached.
void mend(std::string& file) {
  const auto bytes = std::as_bytes(std::span(file));
  if (file.size() < 64) return;
  const std::uint64_t sum = brim::checksum64(bytes.first(56));
  std::memcpy(file.data() + 56, &sum, sizeof sum);
  for (std::size_t end = file.size(); end >= 64 + 36 && file.size() - end < 16 * 36; end -= 36) {
    const std::string record = file.substr(end - 36, 36);
    if (record == std::string(36, '\0')) continue;
    const auto low = static_cast<std::uint32_t>(brim::checksum64(bytes.subspan(end - 36, 32)));
    std::memcpy(file.data() + end - 4, &low, sizeof low);
  }
}

void look(const std::string& bytes, const brim::test::DamagedStore& store) {
  if (store.look(bytes) < 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Made once, and left to the end of the process.
  static const auto* store = new brim::test::DamagedStore(brim::test::small_stores().at(0));
  look({reinterpret_cast<const char*>(data), size}, *store);
  std::string changed = brim::test::patched(store->sound(), data, size);
  look(changed, *store);
  mend(changed);
  look(changed, *store);
  return 0;
}
