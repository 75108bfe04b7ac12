#pragma once

#include <string>
#include <vector>

namespace brim::detail {

/// True if `path` holds `*`, `?` or `{a..b}`.
bool is_shard_pattern(const std::string& path);

/// The files that `pattern` names, in order: `{000..127}` counts up (zero-padded as written), `*`
/// and `?` within a file name match what is there. Of them those whose number mod `parts` is
/// `part`; the names must then be known without looking, since each part may lie elsewhere. Throws
/// Error where there are none, or one of them is not there.
std::vector<std::string> expand_shards(const std::string& pattern, int part = 0, int parts = 1);

}  // namespace brim::detail
