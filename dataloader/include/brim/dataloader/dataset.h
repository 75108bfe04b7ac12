#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brim/cache/key.h"

namespace brim {

enum class Task { Detect, Classify };
enum class Split { Train, Val, Test };

/// One labelled box: class and centre/size as fractions of the (upright) image.
struct Box {
  std::int32_t class_id = 0;
  float cx = 0, cy = 0, width = 0, height = 0;
};

/// Outline of one box, x0 y0 x1 y1 ... as fractions of the image; `box` is its index.
struct Polygon {
  std::int32_t box = 0;
  std::span<const float> points{};
};

enum class Encoding : std::uint8_t {
  ImageFile,  ///< any image format, told by its content
  RawGray,    ///< width x height bytes
};

/// Backs the parts of a Record that the compact index does not hold ready-made: its path and its
/// polygons. Reused from call to call it allocates nothing; one for each Record kept at a time.
struct RecordScratch {
  std::string path{};
  std::vector<Polygon> polygons{};
};

/// Where a sample's bytes are and what it is labelled with. `source.path` and `polygons` look into
/// the scratch that was handed over; every other view stays valid as long as the Dataset. Sizes
/// are 0 where the index does not know them.
struct Record {
  SourceIdentity source{};              ///< path (and range) of the encoded bytes
  std::span<const std::byte> memory{};  ///< the bytes themselves where they are already in memory
  Encoding encoding = Encoding::ImageFile;
  int width = 0;  ///< upright (EXIF applied) where known
  int height = 0;
  std::int32_t class_id = -1;    ///< classification
  std::span<const Box> boxes{};  ///< detection
  std::span<const Polygon> polygons{};
};

/// A rejected or repaired row or file found while opening, for the user to read.
struct DatasetWarning {
  std::string file;
  std::int64_t line = 0;
  std::string reason;
};

/// Samples by number. Implementations are immutable once opened and safe to call from any thread;
/// `record` costs no I/O. Derive from it to bring your own data.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// The record of sample `index` in [0, size()); valid until `scratch` is used again.
  virtual Record record(std::int64_t index, RecordScratch& scratch) const = 0;
  virtual Task task() const = 0;
  virtual const std::vector<std::string>& class_names() const = 0;
  /// Changes when any sample or label changes; part of a checkpoint.
  virtual std::uint64_t fingerprint() const = 0;
  /// Full path of the sample's file, for messages.
  virtual std::string path(std::int64_t index) const = 0;
  virtual const std::vector<DatasetWarning>& warnings() const;
};

struct DatasetOptions {
  Split split = Split::Train;
  std::string index_directory{};  ///< where index caches are kept; empty: none
  int threads = 0;                ///< for scanning; 0: available_cpus()
  bool single_class = false;      ///< every box becomes class 0
  double max_bad_fraction = 0.1;  ///< of label rows, or of listed images; more is an Error
  std::string image_directory{};  ///< COCO: where the images lie; empty: looked for
  /// Tar: of the shards that a pattern names, in order, those whose number mod `parts` is `part`.
  /// The others need not be there.
  int part = 0, parts = 1;
};

/// Opens whatever `path` is: a data.yaml (YOLO), a folder of class folders or of images, a folder
/// with IDX files, a COCO JSON, a .tar shard or a pattern of them ("train-*.tar",
/// "train-{000..127}.tar"). Throws Error.
std::shared_ptr<const Dataset> open_dataset(const std::string& path,
                                            const DatasetOptions& options = {});

std::shared_ptr<const Dataset> open_yolo(const std::string& data_yaml,
                                         const DatasetOptions& options = {});
/// `<root>/<split>/<class>/*` or `<root>/<class>/*`; classes in alphabetical order.
std::shared_ptr<const Dataset> open_image_folder(const std::string& root,
                                                 const DatasetOptions& options = {});
/// `train-images-idx3-ubyte[.gz]` and friends (MNIST family) in `folder`.
std::shared_ptr<const Dataset> open_idx(const std::string& folder,
                                        const DatasetOptions& options = {});

/// COCO detection JSON. For another split than Train, "train" in the file's name is replaced.
std::shared_ptr<const Dataset> open_coco(const std::string& json,
                                         const DatasetOptions& options = {});
/// WebDataset shards, uncompressed, read in place. `pattern` may hold `*`, `?` and `{000..127}`;
/// "train" in it is replaced as for COCO.
std::shared_ptr<const Dataset> open_tar(const std::string& pattern,
                                        const DatasetOptions& options = {});

/// "train", "val" or "test". Throws Error.
Split parse_split(const std::string& text);
std::string_view split_name(Split split);

}  // namespace brim
