#include <algorithm>
#include <filesystem>
#include <unordered_map>
#include <vector>

#include "brim/cache/error.h"
#include "brim/dataloader/dataset.h"
#include "dataset_build.h"
#include "dataset_scan.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using namespace detail;

/// What folders of a split are called.
std::vector<std::string> split_folders(Split split) {
  switch (split) {
    case Split::Train:
      return {"train", "training"};
    case Split::Val:
      return {"val", "valid", "validation"};
    case Split::Test:
      break;
  }
  return {"test", "testing"};
}

/// The folder of `split` in `root`: one of its names that holds folders (of classes), so that a
/// class called "train" is none. Empty: there is none.
std::string find_split(const std::string& root, Split split) {
  std::error_code ignored;
  for (const std::string& name : split_folders(split)) {
    const std::string folder = root + "/" + name;
    if (!fs::is_directory(folder, ignored)) continue;
    if (!folder_content(folder).folders.empty()) return folder;
  }
  return {};
}

/// Where the class folders are and which classes there are.
struct Layout {
  std::string folder;
  std::vector<std::string> classes;  ///< empty: images without classes
};

Layout find_layout(const std::string& root, Split split) {
  std::error_code ignored;
  if (!fs::is_directory(root, ignored)) throw Error("no such folder", {.file = root});
  const std::string train = find_split(root, Split::Train);
  if (train.empty() && find_split(root, Split::Val).empty()) {
    const FolderContent content = folder_content(root);
    if (content.folders.empty() || split == Split::Train) return {root, content.folders};
    throw Error("has no train and val folders, so there is nothing to validate on", {.file = root},
                "arrange the images as <folder>/train/<class>/* and <folder>/val/<class>/*");
  }
  const std::string folder = find_split(root, split);
  if (folder.empty()) {
    throw Error("no folder '" + std::string(split_name(split)) + "' with class folders in it",
                {.file = root});
  }
  return {folder, folder_content(train.empty() ? folder : train).folders};
}

void list_folder(const Layout& layout, SampleIndex& index) {
  if (layout.classes.empty()) {  // images alone: nothing is known of them
    index.task = Task::Detect;
    return add_folder(layout.folder, index);
  }
  index.task = Task::Classify;
  index.class_names = layout.classes;
  const FolderContent content = folder_content(layout.folder);
  if (content.has_images) {
    add_warning(index.warnings, {layout.folder, 0, "images outside of class folders are not used"});
  }
  for (const std::string& name : content.folders) {
    const std::string folder = layout.folder + "/" + name;
    const auto it = std::lower_bound(layout.classes.begin(), layout.classes.end(), name);
    if (it == layout.classes.end() || *it != name) {
      throw Error("class '" + name + "' is not among the training classes", {.file = folder},
                  "training and validation folders must hold the same classes");
    }
    const std::int64_t before = index.size();
    add_folder(folder, index, static_cast<std::uint32_t>(it - layout.classes.begin()));
    if (index.size() == before) add_warning(index.warnings, {folder, 0, "class without images"});
  }
}

}  // namespace

std::shared_ptr<const Dataset> open_image_folder(const std::string& root,
                                                 const DatasetOptions& options) {
  const std::string folder = full_path(root);
  const Layout layout = find_layout(folder, options.split);
  const int threads = scan_threads(options);
  IndexBuild build;
  build.what = "image folder\n" + folder + "\n" + std::string(split_name(options.split));
  build.root = folder;
  build.list = [&](SampleIndex& index, SourceDigest& digest) {
    list_folder(layout, index);
    for (const std::string& name : layout.classes) digest.add(name);
    if (index.size() == 0) {
      throw Error("no images found", {.file = layout.folder},
                  "image files end in one of: " + known_image_types());
    }
    const auto missing = look_up_files(index, WithLabels::No, threads, digest);
    for (const std::int64_t i : missing) {
      add_warning(index.warnings, {index.shown_path(i), 0, "no such image"});
    }
    remove_samples(index, missing);
  };
  build.read = [&](SampleIndex& index) {
    read_image_sizes(index, threads);
    if (index.task == Task::Detect) {
      for (SampleEntry& entry : index.entries) entry.label = 0;
    }
  };
  return open_indexed(build, options);
}

}  // namespace brim
