#pragma once

#include <string>
#include <vector>

namespace brim::detail {

/// True if `path` holds `*`, `?` or `{a..b}`.
bool is_shard_pattern(const std::string& path);

/// The files that `pattern` names, in order: `{000..127}` counts up (zero-padded as written), `*`
/// and `?` within a file name match what is there. Throws Error where nothing does.
std::vector<std::string> expand_shards(const std::string& pattern);

}  // namespace brim::detail
