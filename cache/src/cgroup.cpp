#include "cgroup.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

namespace brim::detail {
namespace {

struct Mount {
  std::string root;
  std::string point;
  bool unified = false;
};

/// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out +=
          static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool in_list(const std::string& list, const std::string& word) {
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');)
    if (item == word) return true;
  return false;
}

std::vector<Mount> cgroup_mounts(const std::string& root, const std::string& controller) {
  std::vector<Mount> mounts;
  std::istringstream lines(slurp(root + "/proc/self/mountinfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream head(line.substr(0, dash));
    std::istringstream tail(line.substr(dash + 3));
    std::string id, parent, device, mount_root, point, type, source, options;
    head >> id >> parent >> device >> mount_root >> point;
    tail >> type >> source >> options;
    const bool unified = type == "cgroup2";
    if (!unified && !(type == "cgroup" && in_list(options, controller))) continue;
    mounts.push_back({unescape(mount_root), unescape(point), unified});
  }
  return mounts;
}

/// The process's path in the hierarchy of `controller` (version 1) or in version 2.
std::optional<std::string> own_path(const std::string& text, const std::string& controller,
                                    bool unified) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_unified = controllers.empty() && line.compare(0, first, "0") == 0;
    if (unified ? is_unified : in_list(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

/// Part of `path` below the mount's root; a path outside it (another namespace) is its root.
std::string below_mount(const std::string& path, const std::string& mount_root) {
  if (path.find("/..") != std::string::npos) return "";
  if (mount_root == "/") return path == "/" ? "" : path;
  if (path == mount_root || path.rfind(mount_root + "/", 0) != 0) return "";
  return path.substr(mount_root.size());
}

}  // namespace

std::optional<std::string> slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

std::optional<std::int64_t> read_integer(const std::string& path) {
  const std::optional<std::string> text = slurp(path);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error == std::errc::result_out_of_range) return INT64_MAX;
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::int64_t> field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name, 0) != 0 || line.size() <= name.size()) continue;
    const char after = line[name.size()];
    if (after != ' ' && after != ':' && after != '\t') continue;
    std::istringstream rest(line.substr(name.size() + 1));
    std::int64_t value = 0;
    std::string unit;
    if (!(rest >> value)) return std::nullopt;
    rest >> unit;
    return unit == "kB" ? value * 1024 : value;
  }
  return std::nullopt;
}

std::vector<CgroupLevel> cgroup_levels(const std::string& root, const std::string& controller) {
  const std::string prefix = root == "/" ? "" : root;
  std::vector<CgroupLevel> levels;
  const std::string self = slurp(prefix + "/proc/self/cgroup").value_or("");
  for (const Mount& mount : cgroup_mounts(prefix, controller)) {
    const auto path = own_path(self, controller, mount.unified);
    if (!path) continue;
    std::string below = below_mount(*path, mount.root);
    while (true) {
      levels.push_back({.directory = prefix + mount.point + below,
                        .name = below.empty() ? "/" : below,
                        .unified = mount.unified});
      if (below.empty()) break;
      below.erase(below.rfind('/'));
    }
  }
  return levels;
}

}  // namespace brim::detail
