#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <unordered_map>

#include "brim/cache/error.h"
#include "brim/dataloader/dataset.h"
#include "coco_reader.h"
#include "dataset_build.h"
#include "dataset_scan.h"

namespace brim {
namespace {
namespace fs = std::filesystem;
using namespace detail;

std::string_view name_of(const CocoContent& content, const CocoContent::Image& image) {
  return {content.names.data() + image.name, image.name_length};
}

/// Folders in which the images of `json` may lie, likely ones first.
std::vector<fs::path> image_folders(const fs::path& json) {
  std::string tag = json.stem().string();  // instances_train2017 -> train2017
  if (const std::size_t at = tag.rfind('_'); at != std::string::npos) tag = tag.substr(at + 1);
  const fs::path here = json.parent_path(), above = here.parent_path();
  std::vector<fs::path> folders;
  for (const fs::path& base : {here, above}) {
    for (const char* below : {"", "images"}) {
      folders.push_back(base / below);
      folders.push_back(base / below / tag);
    }
  }
  return folders;
}

std::string find_images(const std::string& json, const CocoContent& content,
                        const DatasetOptions& options) {
  if (!options.image_directory.empty()) return full_path(options.image_directory);
  std::string tried;
  std::error_code ignored;
  // Several are tried, for the first of an incomplete download may be missing.
  const std::size_t probes = std::min<std::size_t>(content.images.size(), 20);
  for (const fs::path& folder : image_folders(json)) {
    for (std::size_t i = 0; i < probes; ++i) {
      if (fs::is_regular_file(folder / name_of(content, content.images[i]), ignored)) {
        return full_path(folder.string());
      }
    }
    tried += (tried.empty() ? "" : ", ") + folder.lexically_normal().string();
  }
  throw Error("its images were not found, e.g. " + std::string(name_of(content, content.images[0])),
              {.file = json}, "looked in " + tried + "; name the folder (image_directory)");
}

/// Turns annotations into the labels of an index whose samples are the images that exist.
class LabelBuilder {
 public:
  LabelBuilder(const CocoContent& content, SampleIndex& index, const std::string& json,
               const DatasetOptions& options)
      : content_(content), index_(index), json_(json), options_(options) {
    std::vector<CocoContent::Category> sorted = content.categories;
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return a.id < b.id; });
    for (const CocoContent::Category& category : sorted) {
      const auto [it, fresh] =
          classes_.emplace(category.id, static_cast<std::int32_t>(classes_.size()));
      if (!fresh) fail("category id " + std::to_string(category.id) + " is given twice");
      index_.class_names.push_back(category.name);
    }
    if (classes_.empty()) fail("names no categories");
    if (options.single_class) {
      const bool one = index_.class_names.size() == 1;
      index_.class_names = {one ? index_.class_names[0] : "object"};
    }
  }

  /// `sample_of[i]`: sample of the i-th image, -1 where it is missing.
  void build(const std::vector<std::int64_t>& sample_of) {
    const std::vector<std::uint64_t> order = by_sample(sample_of);
    std::size_t at = 0;
    for (std::size_t sample = 0; sample < index_.entries.size(); ++sample) {
      if (index_.boxes.size() > std::numeric_limits<std::uint32_t>::max()) fail("too many boxes");
      index_.entries[sample].label = static_cast<std::uint32_t>(index_.boxes.size());
      for (; at < order.size() && samples_[order[at]] == static_cast<std::int64_t>(sample); ++at) {
        add(content_.annotations[order[at]], sample);
      }
    }
    if (first_bad_) {
      check_bad_fraction(bad_, static_cast<std::int64_t>(content_.annotations.size()),
                         "annotations", *first_bad_, options_);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(message, {.file = json_});
  }

  void reject(const CocoContent::Annotation& annotation, const std::string& reason) {
    DatasetWarning warning{
        json_, 0, "annotation " + std::to_string(annotation.id) + ": " + reason + "; rejected"};
    if (!first_bad_) first_bad_ = warning;
    ++bad_;
    add_warning(index_.warnings, std::move(warning));
  }

  /// Annotations that have a sample, by sample, in file order within each.
  std::vector<std::uint64_t> by_sample(const std::vector<std::int64_t>& sample_of) {
    std::unordered_map<std::int64_t, std::int64_t> sample_by_id;
    sample_by_id.reserve(sample_of.size());
    for (std::size_t i = 0; i < sample_of.size(); ++i) {
      if (!sample_by_id.emplace(content_.images[i].id, sample_of[i]).second) {
        fail("image id " + std::to_string(content_.images[i].id) + " is given twice");
      }
      if (sample_of[i] >= 0) {
        sizes_.resize(index_.entries.size());
        sizes_[static_cast<std::size_t>(sample_of[i])] = {content_.images[i].width,
                                                          content_.images[i].height};
      }
    }
    samples_.resize(content_.annotations.size(), -1);
    std::vector<std::uint64_t> order;
    for (std::size_t i = 0; i < content_.annotations.size(); ++i) {
      const CocoContent::Annotation& annotation = content_.annotations[i];
      const auto it = sample_by_id.find(annotation.image);
      if (it == sample_by_id.end()) {
        reject(annotation, "no image has id " + std::to_string(annotation.image));
      } else if (it->second >= 0) {
        samples_[i] = it->second;
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint64_t a, std::uint64_t b) { return samples_[a] < samples_[b]; });
    return order;
  }

  void add(const CocoContent::Annotation& annotation, std::size_t sample) {
    const auto category = classes_.find(annotation.category);
    if (category == classes_.end()) {
      fail("annotation " + std::to_string(annotation.id) + ": category " +
           std::to_string(annotation.category) + " is out of range: it is not among 'categories'");
    }
    if (annotation.crowd) return;
    const SampleEntry& entry = index_.entries[sample];
    const double width = sizes_[sample].width > 0 ? sizes_[sample].width : entry.width;
    const double height = sizes_[sample].height > 0 ? sizes_[sample].height : entry.height;
    if (width <= 0 || height <= 0) return reject(annotation, "its image has no known size");
    if (annotation.box_numbers != 4) {
      return reject(annotation, "expected a bbox of 4 numbers, found " +
                                    std::to_string(annotation.box_numbers));
    }
    const double* b = annotation.box;
    const double left = std::clamp(b[0], 0.0, width), right = std::clamp(b[0] + b[2], 0.0, width);
    const double top = std::clamp(b[1], 0.0, height), bottom = std::clamp(b[1] + b[3], 0.0, height);
    Box box;
    box.class_id = options_.single_class ? 0 : category->second;
    box.cx = static_cast<float>((left + right) / 2 / width);
    box.cy = static_cast<float>((top + bottom) / 2 / height);
    box.width = static_cast<float>((right - left) / width);
    box.height = static_cast<float>((bottom - top) / height);
    if (!(box.width > 0 && box.height > 0)) {
      return reject(annotation, "box without area inside its image");
    }
    // Bounded, so that a file with millions of boxes on one image costs no hours.
    const std::size_t all = index_.boxes.size();
    for (std::size_t i = std::max<std::size_t>(entry.label, all - std::min<std::size_t>(all, 2048));
         i < all; ++i) {
      const Box& other = index_.boxes[i];
      if (other.class_id == box.class_id && other.cx == box.cx && other.cy == box.cy &&
          other.width == box.width && other.height == box.height) {
        add_warning(index_.warnings, {json_, 0,
                                      "annotation " + std::to_string(annotation.id) +
                                          ": same as another of its image; dropped"});
        return;
      }
    }
    add_polygons(annotation, width, height);
    index_.boxes.push_back(box);
  }

  void add_polygons(const CocoContent::Annotation& annotation, double width, double height) {
    for (std::uint32_t p = 0; p < annotation.polygons; ++p) {
      const CocoContent::Outline& outline = content_.outlines[annotation.first_polygon + p];
      index_.polygons.push_back({index_.boxes.size(), index_.points.size(), outline.count});
      for (std::uint64_t i = 0; i < outline.count; ++i) {
        const double side = i % 2 == 0 ? width : height;
        const double value = static_cast<double>(content_.points[outline.first + i]) / side;
        index_.points.push_back(static_cast<float>(std::clamp(value, 0.0, 1.0)));
      }
    }
  }

  struct Size {
    std::int32_t width = 0, height = 0;
  };
  const CocoContent& content_;
  SampleIndex& index_;
  const std::string& json_;
  const DatasetOptions& options_;
  std::unordered_map<std::int64_t, std::int32_t> classes_{};
  std::vector<std::int64_t> samples_{};  ///< of each annotation
  std::vector<Size> sizes_{};            ///< of each sample as the file says
  std::optional<DatasetWarning> first_bad_{};
  std::int64_t bad_ = 0;
};

/// Adds every image; the folder part of a file name becomes part of the folder.
void add_images(const CocoContent& content, const std::string& folder, SampleIndex& index) {
  std::unordered_map<std::string, std::uint32_t> directories;
  for (const CocoContent::Image& image : content.images) {
    const std::string_view name = name_of(content, image);
    const std::size_t slash = name.rfind('/');
    std::string directory = folder;
    if (slash != std::string_view::npos) {
      directory = (fs::path(folder) / name.substr(0, slash)).lexically_normal().string();
    }
    const auto [it, fresh] = directories.try_emplace(directory, 0);
    if (fresh) it->second = index.add_directory(directory);
    index.add(it->second, slash == std::string_view::npos ? name : name.substr(slash + 1));
  }
}

/// Drops images that do not exist; returns each image's sample, -1 for those.
std::vector<std::int64_t> drop_missing(SampleIndex& index, const std::string& json,
                                       const DatasetOptions& options) {
  SourceDigest unused;
  const auto missing = look_up_files(index, WithLabels::No, scan_threads(options), unused);
  const auto all = static_cast<std::int64_t>(index.size());
  std::vector<std::int64_t> sample_of(static_cast<std::size_t>(all));
  for (const std::int64_t i : missing) {
    sample_of[static_cast<std::size_t>(i)] = -1;
    add_warning(index.warnings, {json, 0, "no such image: " + index.shown_path(i)});
  }
  if (!missing.empty()) {
    check_bad_fraction(static_cast<std::int64_t>(missing.size()), all, "images",
                       {json, 0, "no such image: " + index.shown_path(missing[0])}, options);
  }
  std::int64_t next = 0;
  for (std::int64_t& sample : sample_of) {
    if (sample >= 0) sample = next++;
  }
  remove_samples(index, missing);
  return sample_of;
}

void read_all(const std::string& json, const DatasetOptions& options, SampleIndex& index) {
  std::ifstream in(json, std::ios::binary);
  if (!in) throw Error("cannot be read", {.file = json});
  const CocoContent content = read_coco(in, json);
  if (content.images.empty()) throw Error("no images found", {.file = json});
  LabelBuilder labels(content, index, json, options);
  add_images(content, find_images(json, content, options), index);
  const std::vector<std::int64_t> sample_of = drop_missing(index, json, options);
  read_image_sizes(index, scan_threads(options));
  labels.build(sample_of);
}

void digest_file(const std::string& file, SourceDigest& digest) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return;
  digest.add_file(
      file, status.st_size,
      static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec);
}

}  // namespace

std::shared_ptr<const Dataset> open_coco(const std::string& json, const DatasetOptions& options) {
  const std::string file = path_of_split(full_path(json), options.split);
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) throw Error("no such data file", {.file = file});
  IndexBuild build;
  build.what = "coco\n" + file + "\n" + options.image_directory +
               (options.single_class ? "\nsingle class" : "");
  build.root = fs::path(file).parent_path().parent_path().string();
  build.check_files = true;
  build.list = [&](SampleIndex&, SourceDigest& digest) {
    digest_file(file, digest);
    // A folder's time tells of images that have come since.
    for (const fs::path& folder : image_folders(file)) digest_file(folder.string(), digest);
    digest_file(options.image_directory, digest);
  };
  build.read = [&](SampleIndex& index) { read_all(file, options, index); };
  return open_indexed(build, options);
}

}  // namespace brim
