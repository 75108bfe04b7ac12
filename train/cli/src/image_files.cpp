#include "image_files.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>

#include "brim/cache/error.h"
#include "brim/dataloader/byte_source.h"
#include "brim/dataloader/decode.h"

namespace brim::cli {
namespace {

namespace fs = std::filesystem;

bool is_image_name(const fs::path& path) {
  static const std::set<std::string> kEndings{".jpg",  ".jpeg", ".png", ".bmp", ".webp", ".tif",
                                              ".tiff", ".jpe",  ".dib", ".ppm", ".pgm",  ".jp2"};
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return kEndings.contains(ending);
}

/// What a pattern of the shell's (*, ?, []) matches, sorted; empty where it is none.
std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), GLOB_BRACE | GLOB_TILDE, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return paths;
}

std::vector<std::string> paths_of(const std::string& source) {
  std::vector<std::string> paths;
  if (fs::is_directory(source)) {
    for (const auto& entry : fs::recursive_directory_iterator(source)) {
      if (entry.is_regular_file() && is_image_name(entry.path())) paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
  } else if (fs::path(source).extension() == ".txt") {
    std::ifstream in(source);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      const fs::path path(line);
      paths.push_back(path.is_absolute() ? line : (fs::path(source).parent_path() / path).string());
      if (!fs::exists(paths.back()))
        throw Error("no such image: " + paths.back(), {.file = source, .line = number},
                    "a line of a list is the path of one image");
    }
  } else if (fs::exists(source)) {
    paths.push_back(source);
  } else if (const auto found = matches(source); !found.empty()) {
    for (const std::string& one : found) {
      if (fs::is_directory(one) || !is_image_name(one)) continue;
      paths.push_back(one);
    }
  } else {
    throw Error("no such image, folder or list, and nothing that this pattern matches",
                {.file = source}, "name one with --source");
  }
  if (paths.empty())
    throw Error("no images found", {.file = source},
                "name an image, a folder of them, a pattern or a list file (.txt) with --source");
  return paths;
}

}  // namespace

ImageFiles::ImageFiles(const std::vector<std::string>& sources) {
  std::vector<std::string> paths;
  for (const std::string& source : sources) {
    const auto more = paths_of(source);
    paths.insert(paths.end(), more.begin(), more.end());
  }
  std::set<std::string> taken;
  for (const std::string& path : paths) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) throw Error("no such image", {.file = path});
    const std::string name = fs::path(path).stem().string();
    std::string stem = name;
    for (int count = 2; !taken.insert(stem).second; ++count)
      stem = name + "_" + std::to_string(count);
    files_.push_back(
        {path, stem, status.st_size,
         status.st_mtim.tv_sec * std::int64_t{1'000'000'000} + status.st_mtim.tv_nsec});
  }
}

Record ImageFiles::record(std::int64_t index, RecordScratch& scratch) const {
  const File& file = files_.at(static_cast<std::size_t>(index));
  scratch.path = file.path;
  Record record;
  record.source = {.path = scratch.path,
                   .offset = 0,
                   .length = static_cast<std::uint64_t>(file.bytes),
                   .mtime_ns = file.mtime_ns};
  return record;
}

std::string ImageFiles::path(std::int64_t index) const {
  return files_.at(static_cast<std::size_t>(index)).path;
}

std::string ImageFiles::unique_stem(std::int64_t index) const {
  return files_.at(static_cast<std::size_t>(index)).stem;
}

void ImageFiles::decode(std::int64_t index, Image& image) const {
  RecordScratch scratch;
  std::vector<std::byte> buffer;
  const auto bytes = read_bytes(record(index, scratch), path(index), buffer);
  Decoder().decode(bytes, {}, std::nullopt, image);
}

}  // namespace brim::cli
