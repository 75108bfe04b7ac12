#include "dataset_folder.h"

#include <fcntl.h>
#include <unistd.h>

namespace brim::detail {

FolderStat::~FolderStat() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool FolderStat::look_up(const std::string& folder, const std::string& name, struct stat& status) {
  if (descriptor_ < 0 || folder != folder_) {
    if (descriptor_ >= 0) ::close(descriptor_);
    folder_ = folder;
    const char* const path = folder.empty() ? "." : folder.c_str();
    descriptor_ = ::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  const bool relative = !name.empty() && name.front() != '/';
  if (descriptor_ >= 0 && relative) return ::fstatat(descriptor_, name.c_str(), &status, 0) == 0;
  return ::stat((folder + "/" + name).c_str(), &status) == 0;
}

std::int64_t mtime_ns(const struct stat& status) {
  return static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace brim::detail
