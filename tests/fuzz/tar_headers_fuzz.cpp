// Tar headers: any bytes give members that lie within the archive, or Error.
#include "dataloader/src/tar_headers.h"

#include <cstring>
#include <stdexcept>

#include "brim/cache/error.h"

namespace {

/// Gives a header block the checksum it should have, so that what lies behind the check is reached.
void mend_checksum(unsigned char* block) {
  std::memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (int i = 0; i < 512; ++i) sum += block[i];
  for (int i = 5; i >= 0; --i, sum /= 8) block[148 + i] = static_cast<unsigned char>('0' + sum % 8);
}

void walk_all(const std::uint8_t* data, std::size_t size, bool mend) {
  brim::detail::TarWalk walk(
      [&](std::uint64_t at, void* to, std::size_t count) {
        if (at > size || count > size - at) return false;
        std::memcpy(to, data + at, count);
        auto* block = static_cast<unsigned char*>(to);
        if (mend && count == 512 && block[0] != 0) mend_checksum(block);
        return true;
      },
      size, "s.tar");
  try {
    while (const auto member = walk.next()) {
      if (member->offset > size || member->size > size - member->offset) {
        throw std::logic_error("a member out of bounds");
      }
    }
  } catch (const brim::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  walk_all(data, size, false);
  walk_all(data, size, true);
  return 0;
}
