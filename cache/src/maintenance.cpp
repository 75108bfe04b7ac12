#include "brim/cache/maintenance.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>

#include "brim/cache/error.h"
#include "maintenance_files.h"

namespace brim {
namespace fs = std::filesystem;
namespace {

bool is_ours(CacheMode mode, const std::string& name) {
  if (mode == CacheMode::Lmdb)
    return name == "data.mdb" || name == "lock.mdb" || name == "brim.lock";
  return name == "lock" || (name.ends_with(".brim") &&
                            (name.starts_with("segment-") || name.starts_with("new-segment-")));
}

}  // namespace

namespace detail {

std::vector<std::string> own_cache_files(const CacheFolder& folder) {
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.directory))
    if (entry.is_regular_file() && is_ours(folder.mode, entry.path().filename().string()))
      files.push_back(entry.path().string());
  return files;
}

std::int64_t disk_bytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::int64_t>(info.st_blocks) * 512 : 0;
}

std::int64_t folder_bytes(const std::string& directory) {
  std::int64_t bytes = 0;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error))
    bytes += disk_bytes(at->path().string());
  return bytes;
}

void lock_out_users(const CacheFolder& folder, std::vector<PosixFile>& held) {
  for (const std::string& path : own_cache_files(folder)) {
    if (path.ends_with(".mdb")) continue;  // LMDB's own; the marker stands for them
    PosixFile file = open_file(path, O_RDONLY);
    if (!file || !lock_file(file, LockKind::Exclusive, 100))
      throw Error("a process is using this cache", {.file = folder.directory},
                  "end the training runs that use it, then try again");
    held.push_back(std::move(file));
  }
}

}  // namespace detail

VerifyResult verify_store(Store& store,
                          const std::function<void(std::int64_t, std::int64_t)>& progress) {
  constexpr std::int64_t kReportEvery = 256;
  VerifyResult result;
  const std::vector<CacheKey> keys = store.keys();
  const auto total = static_cast<std::int64_t>(keys.size());
  Blob blob;
  for (const CacheKey& key : keys) {
    if (progress && result.entries % kReportEvery == 0) progress(result.entries, total);
    ++result.entries;
    if (store.get(key, blob)) {
      ++result.intact;
      result.value_bytes += static_cast<std::int64_t>(blob.bytes.size());
    } else {
      ++result.damaged;
    }
  }
  if (progress) progress(total, total);
  return result;
}

std::vector<CacheFolder> find_cache_folders(const std::string& directory) {
  std::vector<CacheFolder> folders;
  for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
    CacheFolder folder{.mode = mode, .directory = directory + "/" + to_string(mode)};
    // The marker says that the folder is brim's.
    if (!fs::exists(folder.directory + (mode == CacheMode::Disk ? "/lock" : "/brim.lock")))
      continue;
    for (const std::string& file : detail::own_cache_files(folder)) {
      ++folder.files;
      folder.disk_bytes += detail::disk_bytes(file);
    }
    folders.push_back(std::move(folder));
  }
  return folders;
}

std::int64_t remove_caches(const std::string& directory) {
  const std::vector<CacheFolder> folders = find_cache_folders(directory);
  std::vector<detail::PosixFile> locks;
  for (const CacheFolder& folder : folders) detail::lock_out_users(folder, locks);
  std::int64_t freed = 0;
  for (const CacheFolder& folder : folders) {
    std::error_code error;
    for (const std::string& file : detail::own_cache_files(folder)) {
      const std::int64_t bytes = detail::disk_bytes(file);
      if (fs::remove(file, error)) freed += bytes;
      if (error)
        throw Error("cannot remove the cache: " + error.message(), {.file = file},
                    "the folder must be writable for you");
    }
    fs::remove(folder.directory, error);  // stays where something else is in it
  }
  return freed;
}

}  // namespace brim
