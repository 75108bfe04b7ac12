#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace brim::detail {

/// One cgroup directory that binds this process, with the name it is shown under.
struct CgroupLevel {
  std::string directory;  ///< full path of the directory, `root` included
  std::string name;       ///< path as seen in the hierarchy, e.g. "/user.slice/job"
  bool unified = false;   ///< version 2
};

/// Every directory from the process's group up to the mount point in the version 1 hierarchy of
/// `controller` (where mounted) and in the version 2 one, read from <root>/proc/self.
std::vector<CgroupLevel> cgroup_levels(const std::string& root, const std::string& controller);

/// Whole text of a file; nothing when it cannot be read.
std::optional<std::string> slurp(const std::string& path);

/// The first integer in a file; nothing for "max", other text or no file.
std::optional<std::int64_t> read_integer(const std::string& path);

/// The number after `name` in lines of "name value" or "name: value kB" (then in bytes).
std::optional<std::int64_t> field(const std::string& text, const std::string& name);

}  // namespace brim::detail
