#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace brim::detail {

/// A built-in model description: configs/models/<name>.yaml.
struct ModelText {
  std::string_view name;
  std::string_view text;
};
const std::vector<ModelText>& model_texts();

/// One row of `backbone` or `head`: [from, number, module, args].
struct ModelRow {
  std::vector<int> from{};
  int number = 1;
  std::string module{};
  std::vector<std::string> args{};  ///< as written
  std::int64_t line = 0;
};

/// A model description as read, before depth and width are applied.
struct ModelSpec {
  std::string file{};
  int classes = 80;
  double depth_multiple = 1;
  double width_multiple = 1;
  std::vector<std::vector<double>> anchors{};  ///< per level: w, h, w, h ... in pixels
  std::vector<ModelRow> rows{};                ///< backbone, then head
};

/// Reads a description; `file` names it in errors. Throws Error with line and key.
ModelSpec parse_model_yaml(const std::string& text, const std::string& file);

}  // namespace brim::detail
