#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "brim/dataloader/dataset.h"
#include "dataset_index.h"
#include "index_cache.h"

namespace brim::detail {

/// Threads to scan with: file systems answer several questions at a time, so more than CPUs.
int scan_threads(const DatasetOptions& options);

bool is_image_name(std::string_view name);
std::string known_image_types();

/// What lies directly in a folder, hidden names left out. Throws Error if it cannot be read.
struct FolderContent {
  bool has_images = false;
  std::vector<std::string> folders{};  ///< in byte order
};
FolderContent folder_content(const std::string& folder);

/// Adds the images in `folder` and below (links followed, loops not); a folder's own images come
/// before those of its folders. `label` is given to each.
void add_folder(const std::string& folder, SampleIndex& index, std::uint32_t label = 0);

/// Adds the images that the list file `file` names, one per line, relative to the file's folder or
/// else to `root`. Appends each line's number to `lines`. The text goes into `digest`.
void add_list(const std::string& file, const std::string& root, SampleIndex& index,
              std::vector<std::int64_t>& lines, SourceDigest& digest);

/// Folder that holds the labels of the images in `directory`: its last component `images` made
/// `labels`, or itself.
std::string label_directory(const std::string& directory);
/// `<label_directory>/<name without its extension>.txt`
void label_path(std::string_view label_directory, std::string_view name, std::string& out);

enum class WithLabels : std::uint8_t { No, Yes };

/// Looks up size and modification time of every sample (and of its label file), which go into
/// `digest`. Returns the samples that do not exist, ascending.
std::vector<std::int64_t> look_up_files(SampleIndex& index, WithLabels labels, int threads,
                                        SourceDigest& digest);

/// True if every sample's file has the size and modification time that the index says.
bool files_unchanged(const SampleIndex& index, int threads);

/// Removes samples (ascending numbers) before any labels are attached.
void remove_samples(SampleIndex& index, const std::vector<std::int64_t>& numbers);

/// Upright size of each sample as its header tells it.
void read_image_sizes(SampleIndex& index, int threads);
/// The same for one sample; `path` is its file.
void read_image_size_of(const std::string& path, SampleEntry& entry);

}  // namespace brim::detail
