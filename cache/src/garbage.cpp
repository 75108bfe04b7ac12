#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "brim/cache/error.h"
#include "brim/cache/maintenance.h"
#include "disk_segment.h"
#include "maintenance_files.h"
#include "ram_share.h"

namespace brim {
namespace fs = std::filesystem;
namespace {

/// Ending of a folder that takes the place of a cache; left behind only by a killed collection.
constexpr const char* kFresh = ".fresh";

class Collector {
 public:
  Collector(const std::string& directory, const KeepEntry& keep, GarbageMode mode)
      : directory_(directory), keep_(keep), removes_(mode == GarbageMode::Remove) {}

  GarbageResult run() {
    for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
      const CacheFolder folder{.mode = mode, .directory = directory_ + "/" + to_string(mode)};
      if (fs::is_directory(folder.directory + kFresh)) drop_unfinished(folder);
    }
    for (const CacheFolder& folder : find_cache_folders(directory_)) {
      if (folder.mode == CacheMode::Disk) drop_half_made(folder);
      if (keep_) drop_entries(folder);
    }
    const auto what = removes_ ? detail::Orphans::Remove : detail::Orphans::Keep;
    result_.leftovers += static_cast<std::int64_t>(detail::orphan_shares(what).size());
    return result_;
  }

 private:
  /// What a killed collection of `folder` left: half of a copy, or what was the cache before.
  void drop_unfinished(const CacheFolder& folder) {
    const std::string fresh = folder.directory + kFresh;
    std::vector<detail::PosixFile> locks;
    detail::lock_out_users({.mode = folder.mode, .directory = fresh}, locks);
    if (removes_ && fs::exists(folder.directory)) keep_foreign_files(fresh, folder);
    drop_leftover(fresh);
  }

  void drop_leftover(const std::string& path) {
    std::error_code error;
    if (fs::is_directory(path)) {
      for (const auto& entry : fs::recursive_directory_iterator(path, error))
        result_.freed_bytes += detail::disk_bytes(entry.path().string());
    } else {
      result_.freed_bytes += detail::disk_bytes(path);
    }
    ++result_.leftovers;
    if (removes_) fs::remove_all(path, error);
  }

  /// Segments that nobody finished making, and those of versions before this one.
  void drop_half_made(const CacheFolder& folder) {
    for (const std::string& path : detail::own_cache_files(folder)) {
      if (!path.ends_with(".brim")) continue;
      const detail::PosixFile file = detail::open_file(path, O_RDONLY);
      if (!file || !detail::lock_file(file, detail::LockKind::Exclusive, 0)) continue;
      detail::SegmentHeader header{};
      const bool half = fs::path(path).filename().string().starts_with("new-segment-");
      const bool old = file.read_at(0, std::as_writable_bytes(std::span(&header, 1))) &&
                       std::memcmp(header.magic, detail::kSegmentMagic, sizeof header.magic) == 0 &&
                       header.version < detail::kSegmentVersion;
      if (half || old) drop_leftover(path);
    }
  }

  /// Copies what is kept into a fresh folder that then takes the place of the old one.
  void drop_entries(const CacheFolder& folder) {
    std::vector<CacheKey> kept;
    std::int64_t all = 0;
    std::shared_ptr<Store> old = open(folder.mode, folder.directory, 0);
    for (const CacheKey& key : old->keys()) {
      ++all;
      if (keep_(key)) kept.push_back(key);
    }
    result_.entries += all;
    const std::int64_t removed = all - static_cast<std::int64_t>(kept.size());
    result_.removed_entries += removed;
    if (removed == 0) return;
    if (!removes_) {  // in proportion: the bytes of an entry are known when it is read
      result_.freed_bytes +=
          static_cast<std::int64_t>(static_cast<double>(folder.disk_bytes) *
                                    static_cast<double>(removed) / static_cast<double>(all));
      return;
    }
    const std::string fresh = folder.directory + kFresh;
    {
      const std::shared_ptr<Store> next = open(folder.mode, fresh, old->stats().byte_limit);
      Blob blob;
      for (const CacheKey& key : kept) {
        if (!old->get(key, blob)) continue;
        if (next->put(key, blob.bytes, 0) != PutResult::Stored) {
          const std::string why = next->stats().last_error;
          throw Error("cannot copy what is kept" + (why.empty() ? "" : ": " + why), {.file = fresh},
                      "free some space, or remove the cache with: brim cache rm");
        }
      }
      next->flush();
    }
    old.reset();
    result_.freed_bytes += folder.disk_bytes - detail::folder_bytes(fresh);
    std::vector<detail::PosixFile> locks;
    try {
      detail::lock_out_users(folder, locks);
    } catch (...) {
      std::error_code ignored;
      fs::remove_all(fresh, ignored);
      throw;
    }
    if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.directory.c_str(), RENAME_EXCHANGE) !=
        0) {
      const std::string why = std::strerror(errno);
      std::error_code ignored;
      fs::remove_all(fresh, ignored);
      throw Error("cannot exchange the cache folder: " + why, {.file = folder.directory});
    }
    keep_foreign_files(fresh, folder);
    std::error_code ignored;
    fs::remove_all(fresh, ignored);  // what was the cache
  }

  /// What is not brim's in the folder that is about to go moves on into the cache's.
  static void keep_foreign_files(const std::string& old, const CacheFolder& folder) {
    const std::vector<std::string> own =
        detail::own_cache_files({.mode = folder.mode, .directory = old});
    std::vector<fs::path> foreign;
    for (const fs::directory_entry& entry : fs::directory_iterator(old))
      if (std::find(own.begin(), own.end(), entry.path().string()) == own.end())
        foreign.push_back(entry.path());
    for (const fs::path& path : foreign) fs::rename(path, folder.directory / path.filename());
  }

  static std::shared_ptr<Store> open(CacheMode mode, const std::string& directory,
                                     std::int64_t byte_limit) {
    if (mode == CacheMode::Disk)
      return make_disk_store({.directory = directory, .byte_limit = byte_limit});
    return make_lmdb_store({.directory = directory, .byte_limit = byte_limit});
  }

  const std::string directory_;
  const KeepEntry& keep_;
  const bool removes_;
  GarbageResult result_;
};

}  // namespace

GarbageResult collect_garbage(const std::string& directory, const KeepEntry& keep,
                              GarbageMode mode) {
  return Collector(directory, keep, mode).run();
}

}  // namespace brim
