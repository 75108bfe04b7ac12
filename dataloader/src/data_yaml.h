#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"

namespace brim::detail {

/// One entry of `train`, `val` or `test`, resolved to a full path.
struct DataSource {
  std::string path;
  std::int64_t line = 0;  ///< of data.yaml
};

/// What a data.yaml says about one split.
struct DataYaml {
  std::string root;                 ///< folder that relative entries start from
  std::vector<DataSource> sources;  ///< folders of images or list files, existing
  std::vector<std::string> names;   ///< of the classes
  std::vector<DatasetWarning> warnings;
};

/// Reads `file`. Throws Error naming file, line and key for: unreadable file, broken YAML, unknown
/// keys, missing split, sources that do not exist, names with holes, nc unlike names.
DataYaml read_data_yaml(const std::string& file, Split split);

/// The same from text, with paths resolved but not looked up (for tests and fuzzing).
DataYaml parse_data_yaml(const std::string& text, const std::string& file, Split split);

}  // namespace brim::detail
