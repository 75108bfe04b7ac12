#include <sys/stat.h>
#include <xxhash.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "brim/cache/error.h"
#include "brim/dataloader/dataset.h"
#include "brim/dataloader/random.h"
#include "dataset_build.h"
#include "idx_files.h"

namespace brim {
namespace detail {
namespace {
namespace fs = std::filesystem;

struct CloseGz {
  void operator()(gzFile_s* file) const { ::gzclose(file); }
};

/// gzread that ends in Error: a stream cut short or damaged, or shorter than `count`.
void read_exactly(gzFile_s* file, void* to, std::size_t count, const std::string& path) {
  auto* at = static_cast<char*>(to);
  while (count > 0) {
    const int got =
        ::gzread(file, at, static_cast<unsigned>(std::min<std::size_t>(count, 1u << 24)));
    if (got <= 0) {
      int code = Z_OK;
      const char* reason = ::gzerror(file, &code);
      throw Error(code == Z_OK ? "file is cut short" : std::string("damaged: ") + reason,
                  {.file = path});
    }
    at += got;
    count -= static_cast<std::size_t>(got);
  }
}

std::uint32_t read_big32(gzFile_s* file, const std::string& path) {
  std::uint8_t b[4];
  read_exactly(file, b, sizeof b, path);
  return static_cast<std::uint32_t>(b[0]) << 24 | static_cast<std::uint32_t>(b[1]) << 16 |
         static_cast<std::uint32_t>(b[2]) << 8 | b[3];
}

}  // namespace

IdxFile read_idx(const std::string& path, int dimensions) {
  const std::unique_ptr<gzFile_s, CloseGz> file(::gzopen(path.c_str(), "rb"));
  if (!file) throw Error("cannot be read", {.file = path});
  ::gzbuffer(file.get(), 1u << 17);
  const std::uint32_t magic = read_big32(file.get(), path);
  if (magic != (0x00000800u | static_cast<std::uint32_t>(dimensions))) {
    throw Error("not an IDX file of " + std::string(dimensions == 1 ? "labels" : "images"),
                {.file = path});
  }
  IdxFile idx;
  idx.count = read_big32(file.get(), path);
  if (dimensions == 3) {
    idx.height = read_big32(file.get(), path);
    idx.width = read_big32(file.get(), path);
    if (idx.height < 1 || idx.width < 1 || idx.height > 65535 || idx.width > 65535) {
      throw Error("images of " + std::to_string(idx.width) + "x" + std::to_string(idx.height),
                  {.file = path});
    }
  }
  // Memory grows with what was really read: a header that lies costs nothing.
  constexpr std::size_t kStep = 16u << 20;
  const std::size_t total =
      static_cast<std::size_t>(idx.count) * static_cast<std::size_t>(idx.height * idx.width);
  for (std::size_t done = 0; done < total;) {
    const std::size_t step = std::min(kStep, total - done);
    idx.values.resize(done + step);
    read_exactly(file.get(), idx.values.data() + done, step, path);
    done += step;
  }
  // Reading on to the end lets zlib check the stream's checksum.
  char more = 0;
  int code = Z_OK;
  const int got = ::gzread(file.get(), &more, 1);
  const char* reason = ::gzerror(file.get(), &code);
  if (got > 0) throw Error("longer than its header says", {.file = path});
  if (code != Z_OK) throw Error(std::string("damaged: ") + reason, {.file = path});
  return idx;
}

}  // namespace detail

namespace {
namespace fs = std::filesystem;
using detail::IdxFile;

constexpr std::array kFashion = {"t-shirt/top", "trouser", "pullover", "dress", "coat",
                                 "sandal",      "shirt",   "sneaker",  "bag",   "ankle boot"};

bool is_part(std::string name, const std::string& split, const std::string& part) {
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  for (const char* dash : {"-", "."}) {
    if (name.ends_with(split + "-" + part + dash + "idx" + (part == "images" ? "3" : "1") +
                       "-ubyte")) {
      return true;
    }
  }
  return false;
}

/// The file of `part` ("images" or "labels") of a split, or nothing.
std::optional<std::string> find_part(const std::string& folder, Split split,
                                     const std::string& part) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool found = split == Split::Train
                           ? is_part(name, "train", part)
                           : is_part(name, "t10k", part) || is_part(name, "test", part);
    if (found) names.push_back(name);
  }
  if (names.empty()) return std::nullopt;
  std::sort(names.begin(), names.end());
  // x and x.gz hold the same; anything else is a choice that is not ours.
  if (names.size() > 2 || (names.size() == 2 && names[1] != names[0] + ".gz")) {
    throw Error("holds more than one set: " + names[0] + ", " + names[1], {.file = folder},
                "put each into a folder of its own");
  }
  return folder + "/" + names[0];
}

std::string need_part(const std::string& folder, Split split, const std::string& part) {
  if (auto file = find_part(folder, split, part)) return *file;
  const std::string prefix = split == Split::Train ? "train" : "t10k";
  throw Error("no " + prefix + "-" + part + "-idx" + (part == "images" ? "3" : "1") + "-ubyte[.gz]",
              {.file = folder});
}

class IdxDataset : public Dataset {
 public:
  IdxDataset(std::string images_path, IdxFile images, IdxFile labels,
             std::vector<std::string> class_names)
      : path_(std::move(images_path)),
        images_(std::move(images)),
        labels_(std::move(labels)),
        class_names_(std::move(class_names)) {
    struct stat status {};
    if (::stat(path_.c_str(), &status) == 0) {
      mtime_ns_ =
          static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
    }
    fingerprint_ = mix64(XXH3_64bits(images_.values.data(), images_.values.size()),
                         XXH3_64bits(labels_.values.data(), labels_.values.size()));
    for (const std::string& name : class_names_) {
      fingerprint_ = XXH3_64bits_withSeed(name.data(), name.size(), fingerprint_);
    }
  }

  std::int64_t size() const override { return images_.count; }
  Record record(std::int64_t index, RecordScratch& scratch) const override {
    const std::int64_t bytes = images_.width * images_.height;
    const std::int64_t at = index * bytes;
    scratch.path = path_;
    scratch.polygons.clear();
    Record record;
    record.source = {scratch.path, static_cast<std::uint64_t>(kHeaderBytes + at),
                     static_cast<std::uint64_t>(bytes), mtime_ns_};
    record.memory = images_.values.bytes().subspan(static_cast<std::size_t>(at),
                                                   static_cast<std::size_t>(bytes));
    record.encoding = Encoding::RawGray;
    record.width = static_cast<int>(images_.width);
    record.height = static_cast<int>(images_.height);
    record.class_id = labels_.values[static_cast<std::size_t>(index)];
    return record;
  }
  Task task() const override { return Task::Classify; }
  const std::vector<std::string>& class_names() const override { return class_names_; }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  std::string path(std::int64_t index) const override {
    return path_ + ":" + std::to_string(index);
  }

 private:
  static constexpr std::int64_t kHeaderBytes = 16;
  std::string path_;
  IdxFile images_;
  IdxFile labels_;
  std::vector<std::string> class_names_;
  std::int64_t mtime_ns_ = 0;
  std::uint64_t fingerprint_ = 0;
};

int highest_label(const IdxFile& labels) {
  const auto it = std::max_element(labels.values.begin(), labels.values.end());
  return it == labels.values.end() ? 0 : *it;
}

/// Fashion-MNIST's names where the folder says so, else the numbers up to the highest label of
/// any split, so that all splits agree.
std::vector<std::string> idx_class_names(const std::string& folder, const IdxFile& labels,
                                         Split split) {
  int highest = highest_label(labels);
  const auto other = find_part(folder, split == Split::Train ? Split::Val : Split::Train, "labels");
  if (other) highest = std::max(highest, highest_label(detail::read_idx(*other, 1)));
  std::string lower = folder;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.find("fashion") != std::string::npos && highest < 10) {
    return {kFashion.begin(), kFashion.end()};
  }
  std::vector<std::string> names;
  for (int i = 0; i <= highest; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace

bool detail::has_idx_files(const std::string& folder) {
  return find_part(folder, Split::Train, "images") || find_part(folder, Split::Val, "images");
}

std::shared_ptr<const Dataset> open_idx(const std::string& folder, const DatasetOptions& options) {
  const std::string full = detail::full_path(folder);
  std::error_code ignored;
  if (!fs::is_directory(full, ignored)) throw Error("no such folder", {.file = full});
  const std::string images_path = need_part(full, options.split, "images");
  const std::string labels_path = need_part(full, options.split, "labels");
  IdxFile labels = detail::read_idx(labels_path, 1);
  IdxFile images = detail::read_idx(images_path, 3);
  if (images.count == 0) throw Error("no images found", {.file = images_path});
  if (images.count != labels.count) {
    throw Error("holds " + std::to_string(images.count) + " images, but " + labels_path + " has " +
                    std::to_string(labels.count) + " labels",
                {.file = images_path});
  }
  std::vector<std::string> names = idx_class_names(full, labels, options.split);
  return std::make_shared<IdxDataset>(images_path, std::move(images), std::move(labels),
                                      std::move(names));
}

}  // namespace brim
