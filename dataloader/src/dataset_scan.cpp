#include "dataset_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "brim/cache/error.h"
#include "brim/cache/memory_budget.h"
#include "dataset_folder.h"
#include "dataset_image_size.h"
#include "dataset_parallel.h"

namespace brim::detail {
namespace {

constexpr std::int64_t kBlock = 512;  ///< samples per unit of parallel work
constexpr int kMaxDepth = 64;

constexpr std::array<std::string_view, 16> kImageTypes = {
    "jpg", "jpeg", "jpe", "png", "bmp", "webp", "tif", "tiff",
    "mpo", "ppm",  "pgm", "pnm", "jp2", "dng",  "gif", "pfm"};

enum class Kind : std::uint8_t { Image, Folder, Other };

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

Kind kind_of(DIR* dir, const dirent& entry) {
  unsigned char type = entry.d_type;
  if (type == DT_UNKNOWN || type == DT_LNK) {
    struct stat status {};
    if (::fstatat(::dirfd(dir), entry.d_name, &status, 0) != 0) {
      // A link to nothing that is named like an image is a sample that is missing.
      return is_image_name(entry.d_name) ? Kind::Image : Kind::Other;
    }
    type = S_ISDIR(status.st_mode) ? DT_DIR : S_ISREG(status.st_mode) ? DT_REG : DT_FIFO;
  }
  if (type == DT_DIR) return Kind::Folder;
  return type == DT_REG && is_image_name(entry.d_name) ? Kind::Image : Kind::Other;
}

using FolderIdentity = std::pair<dev_t, ino_t>;

FolderIdentity identity(const std::string& folder) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

template <class Visit>
void for_each_name(const std::string& folder, Visit visit) {
  const std::unique_ptr<DIR, CloseDir> dir(::opendir(folder.c_str()));
  if (!dir) throw Error(std::string("cannot be read: ") + std::strerror(errno), {.file = folder});
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') visit(entry->d_name, kind_of(dir.get(), *entry));
  }
}

void walk(const std::string& folder, SampleIndex& index, std::uint32_t label,
          std::vector<FolderIdentity>& above) {
  const FolderIdentity self = identity(folder);
  if (std::find(above.begin(), above.end(), self) != above.end()) return;
  if (above.size() >= kMaxDepth) {
    throw Error("folders nested deeper than " + std::to_string(kMaxDepth), {.file = folder});
  }
  // Names go straight into the index and are sorted there: no second list of a huge folder.
  const std::size_t first = index.entries.size();
  const std::uint32_t directory = index.add_directory(folder);
  std::vector<std::string> folders;
  for_each_name(folder, [&](const char* name, Kind kind) {
    if (kind == Kind::Image) index.add(directory, name).label = label;
    if (kind == Kind::Folder) folders.emplace_back(name);
  });
  if (index.entries.size() == first) index.directories.pop_back();
  std::sort(
      index.entries.begin() + first, index.entries.end(),
      [&](const SampleEntry& a, const SampleEntry& b) { return index.name(a) < index.name(b); });
  std::sort(folders.begin(), folders.end());
  above.push_back(self);
  for (const std::string& name : folders) walk(folder + "/" + name, index, label, above);
  above.pop_back();
}

}  // namespace

int scan_threads(const DatasetOptions& options) {
  return options.threads > 0 ? options.threads : std::clamp(2 * available_cpus(), 4, 32);
}

bool is_image_name(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || name.size() - dot > 5) return false;
  char lower[8] = {};
  for (std::size_t i = dot + 1; i < name.size(); ++i) {
    const char c = name[i];
    lower[i - dot - 1] = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return std::find(kImageTypes.begin(), kImageTypes.end(), std::string_view(lower)) !=
         kImageTypes.end();
}

std::string known_image_types() {
  std::string text;
  for (const std::string_view type : kImageTypes) {
    if (!text.empty()) text += ' ';
    text += type;
  }
  return text;
}

FolderContent folder_content(const std::string& folder) {
  FolderContent content;
  for_each_name(folder, [&](const char* name, Kind kind) {
    if (kind == Kind::Folder) content.folders.emplace_back(name);
    content.has_images |= kind == Kind::Image;
  });
  std::sort(content.folders.begin(), content.folders.end());
  return content;
}

void add_folder(const std::string& folder, SampleIndex& index, std::uint32_t label) {
  std::vector<FolderIdentity> above;
  walk(folder, index, label, above);
}

std::string label_directory(const std::string& directory) {
  constexpr std::string_view kImages = "images";
  std::size_t end = directory.size();
  while (end > 0) {
    const std::size_t slash = directory.rfind('/', end - 1);
    const std::size_t begin = slash == std::string::npos ? 0 : slash + 1;
    if (std::string_view(directory).substr(begin, end - begin) == kImages) {
      return directory.substr(0, begin) + "labels" + directory.substr(end);
    }
    if (slash == std::string::npos) break;
    end = slash;
  }
  return directory;
}

void label_path(std::string_view directory, std::string_view name, std::string& out) {
  const std::size_t dot = name.rfind('.');
  out = directory;
  if (!out.empty() && out.back() != '/') out += '/';
  out += name.substr(0, dot == 0 ? std::string_view::npos : dot);
  out += ".txt";
}

std::vector<std::int64_t> look_up_files(SampleIndex& index, WithLabels labels, int threads,
                                        SourceDigest& digest) {
  std::vector<std::string> label_directories;
  if (labels == WithLabels::Yes) {
    for (const std::string& directory : index.directories) {
      label_directories.push_back(label_directory(directory));
    }
  }
  struct Result {
    std::vector<std::int64_t> missing;
    SourceDigest digest;
  };
  auto look_up = [&](std::int64_t begin, std::int64_t end) {
    Result result;
    FolderStat images, texts;
    std::string path, name, label;
    for (std::int64_t i = begin; i < end; ++i) {
      SampleEntry& entry = index.entries[static_cast<std::size_t>(i)];
      struct stat status {};
      index.path(i, path);
      name = index.name(entry);
      if (!images.look_up(index.directories[entry.directory], name, status) ||
          !S_ISREG(status.st_mode)) {
        result.missing.push_back(i);
        result.digest.add_file(path, -1, 0);
        continue;
      }
      // Lengths beyond 32 bits are no images; the decoder refuses what was cut here.
      entry.length = static_cast<std::uint32_t>(
          std::min<std::int64_t>(status.st_size, std::numeric_limits<std::uint32_t>::max()));
      entry.mtime_ns = mtime_ns(status);
      result.digest.add_file(path, status.st_size, entry.mtime_ns);
      if (labels == WithLabels::No) continue;
      const std::string& folder = label_directories[entry.directory];
      label_path(folder, name, path);
      label_path({}, name, label);
      if (texts.look_up(folder, label, status)) {
        result.digest.add_file(path, status.st_size, mtime_ns(status));
      }
    }
    return result;
  };
  std::vector<std::int64_t> missing;
  ordered_blocks(index.size(), kBlock, threads, look_up, [&](Result&& result) {
    digest.merge_files(result.digest);
    missing.insert(missing.end(), result.missing.begin(), result.missing.end());
  });
  return missing;
}

bool files_unchanged(const SampleIndex& index, int threads) {
  bool unchanged = true;
  auto compare = [&](std::int64_t begin, std::int64_t end) {
    FolderStat images;
    std::string name;
    for (std::int64_t i = begin; i < end; ++i) {
      const SampleEntry& entry = index.entries[static_cast<std::size_t>(i)];
      struct stat status {};
      name = index.name(entry);
      if (!images.look_up(index.directories[entry.directory], name, status) ||
          mtime_ns(status) != entry.mtime_ns ||
          static_cast<std::uint64_t>(status.st_size) != entry.length) {
        return false;
      }
    }
    return true;
  };
  ordered_blocks(index.size(), kBlock, threads, compare, [&](bool same) { unchanged &= same; });
  return unchanged;
}

void remove_samples(SampleIndex& index, const std::vector<std::int64_t>& numbers) {
  std::size_t kept = 0;
  auto next = numbers.begin();
  for (std::size_t i = 0; i < index.entries.size(); ++i) {
    if (next != numbers.end() && *next == static_cast<std::int64_t>(i)) {
      ++next;
    } else {
      index.entries[kept++] = index.entries[i];
    }
  }
  index.entries.resize(kept);
}

void read_image_size_of(const std::string& path, SampleEntry& entry) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  HeaderSource source(file, entry.offset, entry.length);
  const ImageSize size = read_image_size(source);
  ::close(file);
  constexpr int kMost = std::numeric_limits<std::uint16_t>::max();
  if (size.width > kMost || size.height > kMost) return;
  entry.width = static_cast<std::uint16_t>(size.width);
  entry.height = static_cast<std::uint16_t>(size.height);
}

void read_image_sizes(SampleIndex& index, int threads) {
  auto read = [&](std::int64_t begin, std::int64_t end) {
    std::string path;
    for (std::int64_t i = begin; i < end; ++i) {
      index.path(i, path);
      read_image_size_of(path, index.entries[static_cast<std::size_t>(i)]);
    }
    return 0;
  };
  ordered_blocks(index.size(), kBlock, threads, read, [](int) {});
}

}  // namespace brim::detail
