#include "model_yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {

constexpr const char* kRowHint =
    "a row is [from, number, module, [args]], as in [-1, 3, C3, [128]]";

class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  [[noreturn]] void fail(const YAML::Node& node, const std::string& key, const std::string& message,
                         const std::string& hint = {}) const {
    const std::int64_t line = node.IsDefined() && node.Mark().line >= 0 ? node.Mark().line + 1 : 0;
    throw Error(message, {.file = file_, .line = line, .key = key}, hint);
  }

  template <class T>
  T scalar(const YAML::Node& node, const std::string& key, const char* expected) const {
    try {
      if (node.IsDefined() && node.IsScalar()) return node.as<T>();
    } catch (const YAML::Exception&) {
      // reported below with the place
    }
    fail(node, key, std::string("expected ") + expected + found(node));
  }

  double positive(const YAML::Node& root, const std::string& key) const {
    if (!root[key]) fail(root, key, "the key is missing", "a number such as 0.33");
    const auto value = scalar<double>(root[key], key, "a number above 0");
    if (!std::isfinite(value) || value <= 0 || value > 16)
      fail(root[key], key, "expected a number above 0 and at most 16" + found(root[key]));
    return value;
  }

  std::vector<std::vector<double>> anchors(const YAML::Node& node) const {
    const std::string hint = "one list per level: - [10, 13, 16, 30, 33, 23]";
    if (!node.IsDefined() || !node.IsSequence() || node.size() == 0)
      fail(node, "anchors", "expected a list of anchor lists", hint);
    std::vector<std::vector<double>> result;
    for (const auto& level : node) {
      if (!level.IsSequence() || level.size() < 2 || level.size() % 2 != 0)
        fail(level, "anchors", "expected pairs of width and height", hint);
      std::vector<double> values;
      for (const auto& value : level) {
        values.push_back(scalar<double>(value, "anchors", "a number above 0"));
        if (!(values.back() > 0))
          fail(value, "anchors", "expected a number above 0" + found(value), hint);
      }
      if (!result.empty() && result.front().size() != values.size())
        fail(level, "anchors", "every level needs the same number of anchors", hint);
      result.push_back(std::move(values));
    }
    return result;
  }

  void rows(const YAML::Node& root, const std::string& key, std::vector<ModelRow>& out) const {
    const YAML::Node list = root[key];
    if (!list.IsDefined() || !list.IsSequence() || list.size() == 0)
      fail(list.IsDefined() ? list : root, key, "expected a list of rows", kRowHint);
    for (const auto& node : list) out.push_back(row(node, key));
  }

 private:
  std::string file_;

  static std::string found(const YAML::Node& node) {
    if (!node.IsDefined() || node.IsNull()) return ", found nothing";
    return node.IsScalar() ? ", found '" + node.Scalar() + "'" : ", found a list or map";
  }

  ModelRow row(const YAML::Node& node, const std::string& key) const {
    if (!node.IsSequence() || node.size() != 4)
      fail(node, key, "expected a row of 4 entries", kRowHint);
    ModelRow result;
    result.line = node.Mark().line + 1;
    if (node[0].IsSequence()) {
      for (const auto& index : node[0])
        result.from.push_back(scalar<int>(index, key, "a row number in 'from'"));
    } else {
      result.from.push_back(scalar<int>(node[0], key, "a row number in 'from'"));
    }
    if (result.from.empty()) fail(node[0], key, "'from' is empty", kRowHint);
    result.number = scalar<int>(node[1], key, "a count of 1 or more in 'number'");
    if (result.number < 1 || result.number > 1000)
      fail(node[1], key, "expected a count of 1 to 1000 in 'number'" + found(node[1]));
    result.module = scalar<std::string>(node[2], key, "a module name");
    if (!node[3].IsSequence()) fail(node[3], key, "expected a list of arguments", kRowHint);
    for (const auto& argument : node[3]) {
      if (argument.IsNull())
        result.args.emplace_back("None");
      else
        result.args.push_back(scalar<std::string>(argument, key, "a plain argument"));
    }
    return result;
  }
};

constexpr std::array<const char*, 6> kKeys{"nc",      "depth_multiple", "width_multiple",
                                           "anchors", "backbone",       "head"};

}  // namespace

ModelSpec parse_model_yaml(const std::string& text, const std::string& file) {
  const Reader reader(file);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    throw Error("not valid YAML: " + e.msg, {.file = file, .line = e.mark.line + 1, .key = {}});
  }
  if (!root.IsMap())
    throw Error("not a model description", {.file = file, .line = 0, .key = {}},
                "it holds nc, depth_multiple, width_multiple, anchors, backbone, head");
  for (const auto& entry : root) {
    const auto key = entry.first.as<std::string>();
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
      reader.fail(entry.first, key, "unknown key",
                  "a model holds nc, depth_multiple, width_multiple, anchors, backbone, head");
  }
  ModelSpec spec;
  spec.file = file;
  if (root["nc"]) {
    spec.classes = reader.scalar<int>(root["nc"], "nc", "a class count");
    if (spec.classes < 1) reader.fail(root["nc"], "nc", "expected at least one class");
  }
  spec.depth_multiple = reader.positive(root, "depth_multiple");
  spec.width_multiple = reader.positive(root, "width_multiple");
  spec.anchors = reader.anchors(root["anchors"]);
  reader.rows(root, "backbone", spec.rows);
  reader.rows(root, "head", spec.rows);
  return spec;
}

}  // namespace brim::detail
