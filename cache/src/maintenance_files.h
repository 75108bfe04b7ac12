#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brim/cache/maintenance.h"
#include "posix_file.h"

namespace brim::detail {

/// Files in the folder that a cache of its kind makes.
std::vector<std::string> own_cache_files(const CacheFolder& folder);
/// Blocks that the file occupies, in bytes; 0 where it is not there.
std::int64_t disk_bytes(const std::string& path);
/// The same of all files directly in `directory`.
std::int64_t folder_bytes(const std::string& directory);
/// Takes the locks that users of the folder would hold; they end with `held`. Throws Error while
/// there are users.
void lock_out_users(const CacheFolder& folder, std::vector<PosixFile>& held);

}  // namespace brim::detail
