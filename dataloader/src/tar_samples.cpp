#include "tar_samples.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "brim/cache/error.h"
#include "dataset_image_size.h"
#include "dataset_scan.h"
#include "tar_headers.h"

namespace brim::detail {
namespace {

using Json = nlohmann::json;
constexpr std::uint64_t kMostLabelBytes = 64u << 20;

class ShardFile {
 public:
  explicit ShardFile(const std::string& path)
      : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat status {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
      const int error = errno;
      if (descriptor_ >= 0) ::close(descriptor_);
      throw Error(std::string("cannot be read: ") + std::strerror(error), {.file = path});
    }
    length_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~ShardFile() { ::close(descriptor_); }
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  bool read(std::uint64_t offset, void* to, std::size_t count) const {
    auto* at = static_cast<char*>(to);
    while (count > 0) {
      const ssize_t got = ::pread(descriptor_, at, count, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      at += got;
      offset += static_cast<std::uint64_t>(got);
      count -= static_cast<std::size_t>(got);
    }
    return true;
  }
  std::string text(const TarMember& member) const {
    if (member.size > kMostLabelBytes) {
      throw Error("label of " + std::to_string(member.size) + " bytes",
                  {.file = path_ + ":" + member.name});
    }
    std::string text(member.size, '\0');
    if (!read(member.offset, text.data(), text.size())) {
      throw Error("cannot be read", {.file = path_ + ":" + member.name});
    }
    return text;
  }
  std::uint64_t length() const { return length_; }
  int descriptor() const { return descriptor_; }
  const std::string& path() const { return path_; }

 private:
  const std::string& path_;
  int descriptor_;
  std::uint64_t length_ = 0;
};

/// Members of one sample.
struct Group {
  std::string key;
  std::optional<TarMember> image, cls, json, txt;
};

/// "jpg", but not "mask.jpg".
bool is_image_kind(const std::string& kind) {
  return kind.find('.') == std::string::npos && is_image_name("." + kind);
}

std::vector<Group> group_members(const ShardFile& file, ShardContent& content) {
  TarWalk walk([&](std::uint64_t at, void* to, std::size_t n) { return file.read(at, to, n); },
               file.length(), file.path());
  std::vector<Group> groups;
  std::unordered_map<std::string, std::size_t> by_key;
  while (std::optional<TarMember> member = walk.next()) {
    const std::size_t slash = member->name.rfind('/');
    const std::size_t base = slash == std::string::npos ? 0 : slash + 1;
    const std::size_t dot = member->name.find('.', base);
    if (dot == std::string::npos || dot == base) continue;  // hidden, or without a kind
    std::string kind = member->name.substr(dot + 1);
    std::transform(kind.begin(), kind.end(), kind.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const auto [it, fresh] = by_key.try_emplace(member->name.substr(0, dot), groups.size());
    if (fresh) groups.push_back({it->first, {}, {}, {}, {}});
    Group& group = groups[it->second];
    std::optional<TarMember>* place = is_image_kind(kind) ? &group.image
                                      : kind == "cls"     ? &group.cls
                                      : kind == "json"    ? &group.json
                                      : kind == "txt"     ? &group.txt
                                                          : nullptr;
    if (place == nullptr) continue;
    if (*place) {
      add_warning(content.warnings, {file.path() + ":" + member->name, 0,
                                     "sample '" + it->first + "' has one already; not used"});
    } else {
      *place = std::move(member);
    }
  }
  if (!walk.closed()) {
    add_warning(content.warnings,
                {file.path(), 0, "the archive has no end mark: it may have been cut short"});
  }
  return groups;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

/// Reads the labels of one sample after the other into a ShardContent.
class LabelReader {
 public:
  LabelReader(const ShardFile& file, const std::vector<std::string>& names, ShardContent& content)
      : file_(file), names_(names), content_(content) {}

  void read(const Group& group, ShardSample& sample) {
    bool labelled = false;
    if (group.cls) {
      sample.class_id = class_of(trimmed(file_.text(*group.cls)), shown(*group.cls));
      labelled = true;
    } else if (group.json) {
      labelled = read_json(*group.json, sample);
    }
    if (!labelled && group.txt) read_rows(file_.text(*group.txt), shown(*group.txt), sample);
    if (sample.class_id >= 0) ++content_.with_class;
  }

 private:
  std::string shown(const TarMember& member) const { return file_.path() + ":" + member.name; }

  std::int32_t class_of(std::string_view text, const std::string& where) const {
    std::int32_t id = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    const bool number = error == std::errc() && end == text.data() + text.size();
    if (number) {
      const bool known =
          names_.empty() ? id < 1'000'000 : id < static_cast<std::int64_t>(names_.size());
      if (id >= 0 && known) return id;
    } else {
      const auto it = std::find(names_.begin(), names_.end(), text);
      if (it != names_.end()) return static_cast<std::int32_t>(it - names_.begin());
    }
    const std::string range =
        names_.empty() ? "without a classes.txt classes are numbers from 0 on"
                       : "classes.txt names " + std::to_string(names_.size()) + " classes";
    throw Error("class '" + std::string(text.substr(0, 40)) + "' is out of range: " + range,
                {.file = where}, "classes.txt beside the shards names one class per line");
  }

  /// True if the object says anything about the sample.
  bool read_json(const TarMember& member, ShardSample& sample) {
    const Json json = Json::parse(file_.text(member), nullptr, false);
    if (!json.is_object()) {
      throw Error("is no JSON object", {.file = shown(member)});
    }
    for (const char* key : {"label", "class_id", "cls", "class"}) {
      const auto it = json.find(key);
      if (it == json.end()) continue;
      const std::string text = it->is_string() ? it->get<std::string>() : it->dump();
      sample.class_id = class_of(text, shown(member));
      return true;
    }
    const auto boxes = json.find("boxes");
    if (boxes == json.end() || !boxes->is_array()) return false;
    std::string rows;
    for (const Json& row : *boxes) {
      for (const Json& number : row) {
        char text[32] = "?";
        if (number.is_number()) std::snprintf(text, sizeof text, "%.9g", number.get<double>());
        rows += text;
        rows += ' ';
      }
      rows += '\n';
    }
    read_rows(rows, shown(member), sample);
    return true;
  }

  void read_rows(const std::string& text, const std::string& where, ShardSample& sample) {
    LabelRows& rows = content_.rows;
    const std::size_t boxes = rows.boxes.size(), polygons = rows.polygons.size();
    const std::int64_t classes = names_.empty() ? -1 : static_cast<std::int64_t>(names_.size());
    parse_label_rows(text, where, classes, rows);
    sample.boxes = static_cast<std::uint32_t>(rows.boxes.size() - boxes);
    for (std::size_t p = polygons; p < rows.polygons.size(); ++p) {
      rows.polygons[p].box += static_cast<std::uint32_t>(boxes);
    }
    for (LabelProblem& problem : rows.problems) {
      DatasetWarning warning{where, problem.line, std::move(problem.reason)};
      if (problem.bad) {
        ++content_.bad_rows;
        if (!content_.first_bad) content_.first_bad = warning;
      }
      add_warning(content_.warnings, std::move(warning));
    }
    rows.problems.clear();
    ++content_.with_boxes;
  }

  const ShardFile& file_;
  const std::vector<std::string>& names_;
  ShardContent& content_;
};

}  // namespace

ShardContent read_shard(const std::string& path, const std::vector<std::string>& names) {
  const ShardFile file(path);
  ShardContent content;
  const std::vector<Group> groups = group_members(file, content);
  LabelReader labels(file, names, content);
  for (const Group& group : groups) {
    if (!group.image) {
      add_warning(content.warnings, {path, 0, "sample '" + group.key + "' has no image"});
      continue;
    }
    if (group.image->size > std::numeric_limits<std::uint32_t>::max()) {
      add_warning(content.warnings, {path + ":" + group.image->name, 0, "too large for an image"});
      continue;
    }
    ShardSample sample;
    sample.name = group.image->name;
    sample.offset = group.image->offset;
    sample.length = static_cast<std::uint32_t>(group.image->size);
    HeaderSource source(file.descriptor(), sample.offset, sample.length);
    const ImageSize size = read_image_size(source);
    if (size.width <= 65535 && size.height <= 65535) {
      sample.width = static_cast<std::uint16_t>(size.width);
      sample.height = static_cast<std::uint16_t>(size.height);
    }
    labels.read(group, sample);
    content.samples.push_back(std::move(sample));
  }
  return content;
}

}  // namespace brim::detail
