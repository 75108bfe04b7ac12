// Files of weights: any archive, and any pickle in a sound archive, gives tensors that lie within
// their storage, or Error.
#include <cstdlib>
#include <string>
#include <vector>

#include "brim/cache/error.h"
#include "support/zip_files.h"
#include "train/src/weights_archive.h"

namespace {

/// Reads the first and the last byte that each tensor reaches.
void read_and_touch(const std::string& archive) {
  try {
    const brim::StateDict state =
        brim::detail::parse_state_dict({archive.begin(), archive.end()}, "w.pt");
    volatile unsigned sum = 0;
    for (const auto& [name, tensor] : state) {
      sum = sum + static_cast<unsigned>(name.size());
      if (tensor.numel() == 0) continue;
      std::int64_t last = 0;
      for (std::int64_t i = 0; i < tensor.dim(); ++i)
        last += (tensor.size(i) - 1) * tensor.stride(i);
      const auto* bytes = static_cast<const unsigned char*>(tensor.data_ptr());
      const auto width = static_cast<std::int64_t>(tensor.element_size());
      if (tensor.storage_offset() + last >=
          static_cast<std::int64_t>(tensor.storage().nbytes()) / width)
        std::abort();
      sum = sum + bytes[0] + bytes[last * width + width - 1];
    }
  } catch (const brim::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  read_and_touch(bytes);
  read_and_touch(brim::test::zip_archive({{"a/data.pkl", bytes},
                                          {"a/data/0", std::string(64, '\1')},
                                          {"a/data/1", std::string(13, '\2')}}));
  return 0;
}
