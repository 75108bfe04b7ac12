// The only reader and writer of experiment YAML.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "config.h"

namespace brim::cli {
namespace {

YAML::Node parse(const std::string& text, const std::string& path) {
  try {
    YAML::Node node = YAML::Load(text);
    if (!node.IsMap()) {
      throw Error("expected sections of keys", {.file = path, .line = 1},
                  "see configs/README.md for the layout");
    }
    return node;
  } catch (const YAML::Exception& error) {
    throw Error("not valid YAML: " + error.msg, {.file = path, .line = error.mark.line + 1},
                "experiments are sections of 'key: value' lines; configs/README.md shows one");
  }
}

YAML::Node load(const std::string& path, const std::string& what) {
  if (!std::filesystem::is_regular_file(path))
    throw Error("no such " + what, {.file = path},
                "check the path; it is relative to the working directory");
  std::ifstream in(path);
  return parse({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}, path);
}

Where where(const std::string& path, const YAML::Node& node, const std::string& key = {}) {
  return {.file = path, .line = node.Mark().line + 1, .key = key};
}

std::string scalar(const YAML::Node& node, const Where& at) {
  if (node.IsNull()) return "";
  if (!node.IsScalar()) throw Error("expected one value", at, "configs/README.md lists every key");
  return node.Scalar();
}

enum class UnknownKeys { Refuse, Skip };

void apply(Config& config, const YAML::Node& root, const std::string& path,
           UnknownKeys unknown = UnknownKeys::Refuse) {
  const auto settings = settings_of(config);
  const auto skipped = [&](const std::string& key) {
    return unknown == UnknownKeys::Skip &&
           std::none_of(settings.begin(), settings.end(),
                        [&](const Setting& setting) { return setting.key == key; });
  };
  for (const auto& section : root) {
    const std::string name = section.first.as<std::string>();
    if (!section.second.IsMap()) {
      set_value(config, name, scalar(section.second, where(path, section.first, name)),
                where(path, section.first));
      continue;
    }
    for (const auto& entry : section.second) {
      const std::string key = name + "." + entry.first.as<std::string>();
      if (skipped(key)) continue;
      set_value(config, key, scalar(entry.second, where(path, entry.first, key)),
                where(path, entry.first));
    }
  }
}

}  // namespace

void read_yaml(Config& config, const std::string& path) {
  apply(config, load(path, "experiment file"), path);
}

void read_yaml_text(Config& config, const std::string& text, const std::string& path) {
  apply(config, parse(text, path), path, UnknownKeys::Skip);
}

void read_hyp(Config& config, const std::string& path) {
  const auto settings = settings_of(config);
  for (const auto& entry : load(path, "hyp file")) {
    const std::string name = entry.first.as<std::string>();
    if (name == "anchors" || name == "iou_t") continue;  // evolution leftovers: without effect
    std::string key = name;
    for (const std::string section : {"train.", "loss.", "augment."}) {
      for (const Setting& setting : settings) {
        if (setting.key == section + name) key = setting.key;
      }
    }
    std::string value = scalar(entry.second, where(path, entry.first, name));
    // Every such file has YOLOv5's own 0.1, which auto gives SGD; it is nobody's wish for Adam.
    if (name == "warmup_bias_lr" && value == "0.1") value = "auto";
    set_value(config, key, value, where(path, entry.first));
  }
}

void write_yaml(const Config& config, const std::string& path) {
  std::ofstream out(path);
  out << to_yaml(config);
  out.flush();
  if (!out) throw Error("cannot write the resolved config", {.file = path}, "is the disk full?");
}

}  // namespace brim::cli
