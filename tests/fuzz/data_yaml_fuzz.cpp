// data.yaml: any text gives a DataYaml with classes and sources, or Error.
#include "dataloader/src/data_yaml.h"

#include <stdexcept>

#include "brim/cache/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const brim::detail::DataYaml yaml =
        brim::detail::parse_data_yaml(text, "/d/data.yaml", brim::Split::Train);
    if (yaml.names.empty() || yaml.sources.empty())
      throw std::logic_error("no classes or no sources");
  } catch (const brim::Error&) {
  }
  return 0;
}
