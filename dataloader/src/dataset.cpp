#include "brim/dataloader/dataset.h"

#include <filesystem>

#include "brim/cache/error.h"
#include "dataset_build.h"
#include "dataset_scan.h"
#include "idx_files.h"
#include "tar_shards.h"

namespace brim {
namespace {
namespace fs = std::filesystem;

bool ends_with(const std::string& text, std::string_view tail) {
  return text.size() >= tail.size() &&
         std::string_view(text).substr(text.size() - tail.size()) == tail;
}

/// `<folder>/annotations/instances_<split>*.json`, as COCO lays itself out; empty: there is none.
std::string find_instances(const std::string& folder, Split split) {
  const std::string prefix = "instances_" + std::string(split_name(split));
  std::string first;
  std::error_code error;
  for (fs::directory_iterator it(folder + "/annotations", error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(prefix) || !ends_with(name, ".json")) continue;
    if (first.empty() || it->path().string() < first) first = it->path().string();
  }
  return first;
}

std::shared_ptr<const Dataset> open_folder(const std::string& path, const DatasetOptions& options) {
  std::error_code ignored;
  for (const char* name : {"data.yaml", "data.yml"}) {
    const std::string file = (fs::path(path) / name).string();
    if (fs::exists(file, ignored)) return open_yolo(file, options);
  }
  const std::string instances = find_instances(path, options.split);
  if (!instances.empty()) return open_coco(instances, options);
  if (detail::has_idx_files(path)) return open_idx(path, options);
  return open_image_folder(path, options);
}

}  // namespace

const std::vector<DatasetWarning>& Dataset::warnings() const {
  static const std::vector<DatasetWarning> none;
  return none;
}

Split parse_split(const std::string& text) {
  for (const Split split : {Split::Train, Split::Val, Split::Test}) {
    if (text == split_name(split)) return split;
  }
  throw Error("no such split: '" + text + "'", {}, "one of train, val, test");
}

std::string_view split_name(Split split) {
  switch (split) {
    case Split::Train:
      return "train";
    case Split::Val:
      return "val";
    case Split::Test:
      break;
  }
  return "test";
}

std::shared_ptr<const Dataset> open_dataset(const std::string& path,
                                            const DatasetOptions& options) {
  std::error_code ignored;
  const bool is_tar = ends_with(path, ".tar") || detail::is_shard_pattern(path);
  if (options.parts > 1 && (!is_tar || fs::is_directory(path, ignored))) {
    throw Error("only tar shards can be divided among machines", {.file = path},
                "leave data.sharding at record, or make shards");
  }
  if (fs::is_directory(path, ignored)) return open_folder(path, options);
  if (ends_with(path, ".yaml") || ends_with(path, ".yml")) return open_yolo(path, options);
  if (ends_with(path, ".json")) return open_coco(path, options);
  if (is_tar) return open_tar(path, options);
  if (!fs::exists(path, ignored)) {
    throw Error("no such data file or folder", {.file = path},
                "give a data.yaml, a folder of images, a COCO .json or .tar shards");
  }
  throw Error("not a kind of dataset that brim knows", {.file = path},
              "give a data.yaml, a folder of images, a COCO .json or .tar shards");
}

}  // namespace brim
