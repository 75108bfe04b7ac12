#include <filesystem>

#include "brim/cache/error.h"
#include "brim/dataloader/dataset.h"
#include "data_yaml.h"
#include "dataset_build.h"
#include "dataset_scan.h"
#include "yolo_labels.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using namespace detail;

/// Samples of one source (folder or list file) of a split.
struct SourceRange {
  const DataSource* source;
  std::int64_t first;
  std::vector<std::int64_t> lines;  ///< of a list file, one per sample
};

/// Which line asked for a sample that does not exist.
DatasetWarning missing_image(const SampleIndex& index, std::int64_t sample,
                             const std::vector<SourceRange>& ranges) {
  const SourceRange* range = &ranges.front();
  for (const SourceRange& candidate : ranges) {
    if (candidate.first <= sample) range = &candidate;
  }
  const auto offset = static_cast<std::size_t>(sample - range->first);
  const std::int64_t line = offset < range->lines.size() ? range->lines[offset] : 0;
  return {range->source->path, line, "no such image: " + index.shown_path(sample)};
}

void list_yolo(const DataYaml& data, const std::string& file, const DatasetOptions& options,
               SampleIndex& index, SourceDigest& digest) {
  index = SampleIndex();
  index.class_names = data.names;
  index.warnings = data.warnings;
  for (const std::string& name : data.names) digest.add(name);
  std::vector<SourceRange> ranges;
  for (const DataSource& source : data.sources) {
    ranges.push_back({&source, index.size(), {}});
    digest.add(source.path);
    std::error_code ignored;
    if (fs::is_directory(source.path, ignored)) {
      add_folder(source.path, index);
    } else {
      add_list(source.path, data.root, index, ranges.back().lines, digest);
    }
    if (index.size() == ranges.back().first) {
      throw Error(
          "no images found in " + source.path,
          {.file = file, .line = source.line, .key = std::string(split_name(options.split))},
          "image files end in one of: " + known_image_types());
    }
  }
  const auto missing = look_up_files(index, WithLabels::Yes, scan_threads(options), digest);
  if (missing.empty()) return;
  for (const std::int64_t sample : missing) {
    add_warning(index.warnings, missing_image(index, sample, ranges));
  }
  check_bad_fraction(static_cast<std::int64_t>(missing.size()), index.size(), "listed images",
                     missing_image(index, missing.front(), ranges), options);
  remove_samples(index, missing);
}

}  // namespace

std::shared_ptr<const Dataset> open_yolo(const std::string& data_yaml,
                                         const DatasetOptions& options) {
  const std::string file = full_path(data_yaml);
  DataYaml data = read_data_yaml(file, options.split);
  // One class of the user's own keeps its name.
  const std::vector<std::string> single{data.names.size() == 1 ? data.names[0] : "object"};
  IndexBuild build;
  build.what = "yolo\n" + file + "\n" + std::string(split_name(options.split)) +
               (options.single_class ? "\nsingle class" : "");
  build.root = data.root;
  build.list = [&](SampleIndex& index, SourceDigest& digest) {
    list_yolo(data, file, options, index, digest);
  };
  build.read = [&](SampleIndex& index) {
    read_yolo_labels(index, options);
    if (options.single_class) index.class_names = single;
  };
  return open_indexed(build, options);
}

}  // namespace brim
