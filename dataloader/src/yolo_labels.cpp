#include "yolo_labels.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "brim/cache/error.h"
#include "dataset_build.h"
#include "dataset_parallel.h"
#include "dataset_scan.h"
#include "label_rows.h"

namespace brim::detail {
namespace {

constexpr std::int64_t kBlock = 256;

/// Labels of a block of samples.
struct BlockLabels {
  std::int64_t begin = 0;
  std::vector<std::uint32_t> boxes;  ///< per sample
  LabelRows rows;                    ///< polygon boxes are numbered within the block
  std::vector<DatasetWarning> warnings;
  std::optional<DatasetWarning> first_bad;
  std::int64_t bad = 0;
  std::int64_t label_files = 0;
};

/// The text of `path`; false where there is no such file.
bool read_file(const std::string& path, std::string& text) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    throw Error(std::string("cannot be read: ") + std::strerror(errno), {.file = path});
  }
  text.clear();
  char buffer[16384];
  ssize_t got = 0;
  while ((got = ::read(file, buffer, sizeof buffer)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  const int error = errno;
  ::close(file);
  if (got < 0) throw Error(std::string("cannot be read: ") + std::strerror(error), {.file = path});
  return true;
}

void take_problems(BlockLabels& block, const std::string& file) {
  for (LabelProblem& problem : block.rows.problems) {
    DatasetWarning warning{file, problem.line, std::move(problem.reason)};
    if (problem.bad) {
      ++block.bad;
      if (!block.first_bad) block.first_bad = warning;
    }
    block.warnings.push_back(std::move(warning));
  }
  block.rows.problems.clear();
}

class LabelReader {
 public:
  LabelReader(SampleIndex& index, const DatasetOptions& options)
      : index_(index), classes_(static_cast<std::int64_t>(index.class_names.size())) {
    for (const std::string& directory : index.directories) {
      directories_.push_back(label_directory(directory));
    }
    if (options.single_class) classes_ = -1;
    single_class_ = options.single_class;
  }

  BlockLabels operator()(std::int64_t begin, std::int64_t end) const {
    BlockLabels block;
    block.begin = begin;
    std::string path, text;
    for (std::int64_t i = begin; i < end; ++i) {
      SampleEntry& entry = index_.entries[static_cast<std::size_t>(i)];
      index_.path(i, path);
      read_image_size_of(path, entry);
      label_path(directories_[entry.directory], index_.name(entry), path);
      const std::size_t boxes = block.rows.boxes.size();
      const std::size_t polygons = block.rows.polygons.size();
      if (read_file(path, text)) {
        ++block.label_files;
        parse_label_rows(text, path, classes_, block.rows);
        take_problems(block, path);
      }
      for (std::size_t p = polygons; p < block.rows.polygons.size(); ++p) {
        block.rows.polygons[p].box += static_cast<std::uint32_t>(boxes);
      }
      block.boxes.push_back(static_cast<std::uint32_t>(block.rows.boxes.size() - boxes));
    }
    if (single_class_) {
      for (Box& box : block.rows.boxes) box.class_id = 0;
    }
    return block;
  }

 private:
  SampleIndex& index_;
  std::int64_t classes_;
  bool single_class_ = false;
  std::vector<std::string> directories_{};
};

void append_labels(SampleIndex& index, const BlockLabels& block) {
  const std::uint64_t first_box = index.boxes.size();
  const std::uint64_t first_point = index.points.size();
  if (first_box + block.rows.boxes.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw Error("more than 4294967295 boxes in one dataset", {}, "split it into several");
  }
  std::uint64_t at = first_box;
  for (std::size_t i = 0; i < block.boxes.size(); ++i) {
    index.entries[static_cast<std::size_t>(block.begin) + i].label = static_cast<std::uint32_t>(at);
    at += block.boxes[i];
  }
  index.boxes.append(block.rows.boxes.data(), block.rows.boxes.size());
  index.points.append(block.rows.points.data(), block.rows.points.size());
  for (const PolygonRange& p : block.rows.polygons) {
    index.polygons.push_back({first_box + p.box, first_point + p.first, p.count});
  }
}

}  // namespace

void read_yolo_labels(SampleIndex& index, const DatasetOptions& options) {
  std::int64_t rows = 0, bad = 0, label_files = 0;
  std::optional<DatasetWarning> first_bad;
  ordered_blocks(index.size(), kBlock, scan_threads(options), LabelReader(index, options),
                 [&](BlockLabels&& block) {
                   append_labels(index, block);
                   rows += block.rows.rows;
                   bad += block.bad;
                   label_files += block.label_files;
                   if (!first_bad) first_bad = block.first_bad;
                   for (DatasetWarning& warning : block.warnings) {
                     add_warning(index.warnings, std::move(warning));
                   }
                 });
  if (first_bad) check_bad_fraction(bad, rows, "label rows", *first_bad, options);
  if (label_files > 0 || index.size() == 0) return;
  std::string expected;
  label_path(label_directory(index.directories[index.entries[0].directory]),
             index.name(index.entries[0]), expected);
  if (options.split == Split::Train) {
    throw Error("no labels found for any of " + std::to_string(index.size()) + " images",
                {.file = expected},
                "the labels of .../images/a.jpg are looked for in .../labels/a.txt");
  }
  add_warning(index.warnings, {expected, 0, "no label file found for any image of this split"});
}

}  // namespace brim::detail
