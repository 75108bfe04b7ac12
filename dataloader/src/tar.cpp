#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>

#include "brim/cache/error.h"
#include "brim/dataloader/dataset.h"
#include "dataset_build.h"
#include "dataset_parallel.h"
#include "dataset_scan.h"
#include "tar_samples.h"
#include "tar_shards.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using namespace detail;

/// Lines of `classes.txt` beside the first shard; empty: there is none.
std::vector<std::string> read_class_names(const std::string& shard, SourceDigest& digest) {
  std::vector<std::string> names;
  std::ifstream in(fs::path(shard).parent_path() / "classes.txt");
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty()) continue;
    digest.add(line);
    names.push_back(std::move(line));
  }
  return names;
}

/// Puts the shards, in order, into one index.
class ShardMerge {
 public:
  ShardMerge(const std::vector<std::string>& shards, SampleIndex& index)
      : shards_(shards), index_(index) {
    index.members = true;
  }

  void add(ShardContent&& shard, std::int64_t mtime_ns) {
    const std::uint32_t directory = index_.add_directory(shards_[index_.directories.size()]);
    const std::uint64_t first_box = index_.boxes.size(), first_point = index_.points.size();
    if (first_box + shard.rows.boxes.size() > std::numeric_limits<std::uint32_t>::max()) {
      throw Error("more than 4294967295 boxes in one dataset", {}, "split it into several");
    }
    std::uint64_t box = first_box;
    for (const ShardSample& sample : shard.samples) {
      SampleEntry& entry = index_.add(directory, sample.name);
      entry.offset = sample.offset;
      entry.length = sample.length;
      entry.mtime_ns = mtime_ns;
      entry.width = sample.width;
      entry.height = sample.height;
      entry.label = static_cast<std::uint32_t>(box);
      box += sample.boxes;
      classes_.push_back(sample.class_id);
    }
    index_.boxes.append(shard.rows.boxes.data(), shard.rows.boxes.size());
    index_.points.append(shard.rows.points.data(), shard.rows.points.size());
    for (const PolygonRange& p : shard.rows.polygons) {
      index_.polygons.push_back({first_box + p.box, first_point + p.first, p.count});
    }
    for (DatasetWarning& warning : shard.warnings) add_warning(index_.warnings, std::move(warning));
    if (!first_bad_) first_bad_ = shard.first_bad;
    bad_rows_ += shard.bad_rows;
    rows_ += shard.rows.rows;
    with_class_ += shard.with_class;
    with_boxes_ += shard.with_boxes;
  }

  void finish(std::vector<std::string> names, const DatasetOptions& options) {
    if (index_.size() == 0) throw Error("no images found", {.file = shards_[0]});
    if (first_bad_) check_bad_fraction(bad_rows_, rows_, "label rows", *first_bad_, options);
    if (with_class_ > 0 && with_boxes_ > 0) {
      throw Error("some samples have a class (" + std::to_string(with_class_) +
                      "), others have boxes (" + std::to_string(with_boxes_) + ")",
                  {.file = shards_[0]}, "a dataset is for classification or for detection");
    }
    if (with_class_ > 0) classify();
    if (names.empty()) names = numbered_classes();
    if (options.single_class && with_class_ == 0) {
      for (Box& box : index_.boxes) box.class_id = 0;
      names = {names.size() == 1 ? names[0] : "object"};
    }
    index_.class_names = std::move(names);
  }

 private:
  void classify() {
    index_.task = Task::Classify;
    for (std::size_t i = 0; i < index_.entries.size(); ++i) {
      if (classes_[i] < 0) {
        throw Error("has no class, others have one",
                    {.file = index_.shown_path(static_cast<std::int64_t>(i))},
                    "each image needs a .cls member of the same name");
      }
      index_.entries[i].label = static_cast<std::uint32_t>(classes_[i]);
    }
  }

  /// "0", "1" ... up to the highest class found.
  std::vector<std::string> numbered_classes() {
    std::int32_t highest = -1;
    for (const std::int32_t id : classes_) highest = std::max(highest, id);
    for (const Box& box : index_.boxes) highest = std::max(highest, box.class_id);
    std::vector<std::string> names;
    for (std::int32_t i = 0; i <= highest; ++i) names.push_back(std::to_string(i));
    add_warning(index_.warnings,
                {shards_[0], 0,
                 "no classes.txt beside the shards: " + std::to_string(names.size()) +
                     " classes counted from the labels"});
    return names;
  }

  const std::vector<std::string>& shards_;
  SampleIndex& index_;
  GrowingArray<std::int32_t> classes_{};
  std::optional<DatasetWarning> first_bad_{};
  std::int64_t bad_rows_ = 0, rows_ = 0, with_class_ = 0, with_boxes_ = 0;
};

}  // namespace

std::shared_ptr<const Dataset> open_tar(const std::string& pattern, const DatasetOptions& options) {
  const std::string full = path_of_split(full_path(pattern), options.split);
  const std::vector<std::string> shards = expand_shards(full, options.part, options.parts);
  std::vector<std::string> names;
  std::vector<std::int64_t> mtimes;
  IndexBuild build;
  build.what = "tar\n" + full + (options.single_class ? "\nsingle class" : "");
  if (options.parts > 1)
    build.what += "\npart " + std::to_string(options.part) + " of " + std::to_string(options.parts);
  build.root = fs::path(shards[0]).parent_path().string();
  build.list = [&](SampleIndex&, SourceDigest& digest) {
    names = read_class_names(shards[0], digest);
    mtimes.clear();
    for (const std::string& shard : shards) {
      struct stat status {};
      if (::stat(shard.c_str(), &status) != 0) throw Error("no such shard", {.file = shard});
      mtimes.push_back(static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 +
                       status.st_mtim.tv_nsec);
      digest.add_file(shard, status.st_size, mtimes.back());
    }
  };
  build.read = [&](SampleIndex& index) {
    ShardMerge merge(shards, index);
    std::size_t next = 0;
    ordered_blocks(
        static_cast<std::int64_t>(shards.size()), 1, scan_threads(options),
        [&](std::int64_t i, std::int64_t) {
          return read_shard(shards[static_cast<std::size_t>(i)], names);
        },
        [&](ShardContent&& shard) { merge.add(std::move(shard), mtimes[next++]); });
    merge.finish(std::move(names), options);
  };
  return open_indexed(build, options);
}

}  // namespace brim
