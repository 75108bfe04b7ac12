#include "data_yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {
namespace fs = std::filesystem;

constexpr std::array kUsedKeys = {"path", "train", "val", "test", "names", "nc"};
/// Keys that other programs and label exporters write and that carry nothing for training.
constexpr std::array kIgnoredKeys = {
    "download", "roboflow", "kpt_shape", "flip_idx", "license",  "licence",     "author",     "url",
    "info",     "version",  "date",      "task",     "channels", "description", "contributor"};
constexpr std::int64_t kMaxClasses = 1'000'000;
constexpr std::uintmax_t kMaxBytes = 64u << 20;

std::int64_t line_of(const YAML::Node& node) {
  return node.Mark().line + 1;
}

/// `path` without dots and without a slash at its end.
fs::path plain(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return normal.has_filename() || !normal.has_relative_path() ? normal : normal.parent_path();
}

int edit_distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = std::exchange(row[0], static_cast<int>(i));
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

/// Reader of one document; keeps what messages need.
class Reader {
 public:
  Reader(const std::string& file, Split split) : file_(file), split_(split) {}

  DataYaml read(const YAML::Node& document) {
    if (!document.IsMap()) {
      throw Error("expected 'key: value' lines", {.file = file_},
                  "a data file looks like\n  path: .\n  train: images/train\n  val: images/val\n"
                  "  names: [cat, dog]");
    }
    check_keys(document);
    data_.root = root(document["path"]).string();
    read_sources(document[std::string(split_name(split_))]);
    read_names(document["names"], document["nc"]);
    return std::move(data_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, const YAML::Node& node, const std::string& key,
                         const std::string& hint = {}) const {
    throw Error(message, {.file = file_, .line = node.IsDefined() ? line_of(node) : 0, .key = key},
                hint);
  }

  void check_keys(const YAML::Node& document) const {
    for (const auto& item : document) {
      if (!item.first.IsScalar()) fail("a key must be a word", item.first, {});
      const std::string key = item.first.Scalar();
      if (std::count(kUsedKeys.begin(), kUsedKeys.end(), key) > 0) continue;
      if (std::count(kIgnoredKeys.begin(), kIgnoredKeys.end(), key) > 0) continue;
      const auto nearest =
          *std::min_element(kUsedKeys.begin(), kUsedKeys.end(), [&](const char* a, const char* b) {
            return edit_distance(key.substr(0, 40), a) < edit_distance(key.substr(0, 40), b);
          });
      fail("unknown key", item.first, key,
           "did you mean '" + std::string(nearest) +
               "'? known keys: path, train, val, test, names, nc");
    }
  }

  std::string text_of(const YAML::Node& node, const std::string& key) const {
    if (!node.IsScalar() || node.Scalar().empty()) fail("expected a path", node, key);
    std::string text = node.Scalar();
    if (text.find('\0') != std::string::npos) fail("a path cannot hold a zero byte", node, key);
    return text;
  }

  fs::path root(const YAML::Node& node) const {
    const fs::path folder = fs::absolute(fs::path(file_)).parent_path();
    if (!node.IsDefined() || node.IsNull()) return folder;
    return plain(folder / text_of(node, "path"));
  }

  void read_sources(const YAML::Node& node) {
    const std::string key(split_name(split_));
    if (!node.IsDefined() || node.IsNull()) {
      throw Error(
          "missing", {.file = file_, .key = key},
          "name the folder or list file of these images, e.g. '" + key + ": images/" + key + "'");
    }
    auto add = [&](const YAML::Node& entry) {
      data_.sources.push_back(
          {plain(fs::path(data_.root) / text_of(entry, key)).string(), line_of(entry)});
    };
    if (!node.IsSequence()) return add(node);
    if (node.size() == 0) fail("an empty list", node, key);
    for (const auto& entry : node) add(entry);
  }

  std::string name_of(const YAML::Node& node) const {
    if (!node.IsScalar()) fail("expected a class name", node, "names");
    return node.Scalar();
  }

  void read_name_map(const YAML::Node& names) {
    const auto count = static_cast<std::int64_t>(names.size());
    if (count > kMaxClasses) fail("too many classes", names, "names");
    std::vector<std::optional<std::string>> found(static_cast<std::size_t>(count));
    for (const auto& item : names) {
      std::int64_t id = -1;
      if (!item.first.IsScalar() || !YAML::convert<std::int64_t>::decode(item.first, id) ||
          id < 0) {
        fail("expected a class number", item.first, "names");
      }
      if (id >= count) {
        fail("class numbers must be 0 to " + std::to_string(count - 1) + " without holes, found " +
                 std::to_string(id),
             item.first, "names");
      }
      auto& slot = found[static_cast<std::size_t>(id)];
      if (slot) fail("class " + std::to_string(id) + " is named twice", item.first, "names");
      slot = name_of(item.second);
    }
    for (auto& name : found) data_.names.push_back(std::move(*name));
  }

  void read_names(const YAML::Node& names, const YAML::Node& nc) {
    std::int64_t count = -1;
    if (nc.IsDefined() && !nc.IsNull()) {
      if (!nc.IsScalar() || !YAML::convert<std::int64_t>::decode(nc, count) || count < 1 ||
          count > kMaxClasses) {
        fail("expected a number of classes from 1 on", nc, "nc");
      }
    }
    const bool named = names.IsDefined() && !names.IsNull();
    if (named && names.IsMap()) {
      read_name_map(names);
    } else if (named && names.IsSequence()) {
      for (const auto& name : names) data_.names.push_back(name_of(name));
    } else if (named) {
      fail("expected a list or a map of class names", names, "names");
    } else if (count > 0) {
      for (std::int64_t i = 0; i < count; ++i) data_.names.push_back("class" + std::to_string(i));
    }
    if (data_.names.empty()) {
      throw Error("no classes", {.file = file_, .key = "names"},
                  "list them, e.g. 'names: [cat, dog]'");
    }
    const auto found = static_cast<std::int64_t>(data_.names.size());
    if (count > 0 && count != found) {
      fail("nc is " + std::to_string(count) + " but names has " + std::to_string(found) +
               (found == 1 ? " entry" : " entries"),
           nc, "nc", "make them agree, or leave nc out");
    }
    warn_of_equal_names();
  }

  void warn_of_equal_names() {
    std::vector<std::string> sorted = data_.names;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice == sorted.end()) return;
    data_.warnings.push_back({file_, 0, "names: '" + *twice + "' names more than one class"});
  }

  const std::string& file_;
  Split split_;
  DataYaml data_{};
};

/// Exporters write `../train/images` for what lies beside the data file: taken without the `../`
/// where only that exists.
std::string existing_source(const DataSource& source, const DataYaml& data, const std::string& file,
                            Split split) {
  std::error_code ignored;
  if (fs::exists(source.path, ignored)) return source.path;
  const fs::path relative =
      fs::path(source.path)
          .lexically_relative(fs::path(data.root).parent_path().lexically_normal());
  const fs::path beside = fs::path(data.root) / relative;
  if (!relative.empty() && *relative.begin() != ".." && fs::exists(beside, ignored)) {
    return plain(beside).string();
  }
  throw Error("no such file or folder: " + source.path,
              {.file = file, .line = source.line, .key = std::string(split_name(split))},
              "paths are relative to 'path', which is relative to the data file's folder (here " +
                  data.root + ")");
}

std::string read_text(const std::string& file) {
  std::error_code error;
  if (!fs::exists(file, error)) {
    throw Error("no such data file", {.file = file}, "give the path of a data.yaml");
  }
  if (!fs::is_regular_file(file, error)) throw Error("not a file", {.file = file});
  if (fs::file_size(file, error) > kMaxBytes || error) {
    throw Error("too large for a data file", {.file = file});
  }
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw Error("cannot be read", {.file = file});
  return std::move(text).str();
}

}  // namespace

DataYaml parse_data_yaml(const std::string& text, const std::string& file, Split split) {
  try {
    return Reader(file, split).read(YAML::Load(text));
  } catch (const YAML::Exception& e) {
    throw Error("broken YAML: " + e.msg, {.file = file, .line = e.mark.line + 1});
  } catch (const fs::filesystem_error& e) {
    throw Error(std::string("cannot be resolved: ") + e.what(), {.file = file});
  }
}

DataYaml read_data_yaml(const std::string& file, Split split) {
  DataYaml data = parse_data_yaml(read_text(file), file, split);
  for (DataSource& source : data.sources) {
    source.path = existing_source(source, data, file, split);
  }
  return data;
}

}  // namespace brim::detail
