#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "brim/cache/stores.h"
#include "brim/dataloader/loader.h"

namespace brim {

enum class BenchMode : std::uint8_t { Letterbox, Mosaic, Classify };

/// "letterbox", "mosaic" or "classify"; throws Error.
BenchMode parse_bench_mode(const std::string& text);
std::string to_string(BenchMode mode);

struct BenchLoaderOptions {
  std::string data{};
  DatasetOptions dataset{};
  int image_size = 640;
  BenchMode mode = BenchMode::Mosaic;
  LoaderOptions loader{};  ///< `cache` and `budget` are made from the fields below
  CacheMode cache = CacheMode::None;
  bool choose_cache = false;  ///< `cache` and the loader's content are chosen by measurement
  std::string cache_directory{};
  std::int64_t cache_bytes = 0;
  std::int64_t memory_bytes = 0;  ///< of the budget; 0: what the machine leaves
  double seconds = 6;             ///< of the loader; the decode bound runs for as long again
  int slices = 6;                 ///< loader and bound take turns this often
  bool measure = true;            ///< throughput; false: digest only
  bool digest = false;            ///< of one whole epoch
  std::int64_t digest_epoch = 0;
};

struct BenchLoaderResult {
  std::string dataset{}, transform{}, cache{};
  std::int64_t images = 0;  ///< in the dataset
  LoaderPlan plan{};
  std::int64_t samples = 0;  ///< measured
  double images_per_second = 0;
  double cpu_seconds_per_image = 0;
  double first_batch_seconds = 0;      ///< from start() of a fresh loader
  double epoch_boundary_seconds = 0;   ///< mean wait for an epoch's first batch; 0: none was met
  std::int64_t peak_bytes = 0;         ///< resident in the process, highest seen
  std::int64_t loader_bytes = 0;       ///< of them since before the loader was made
  int bound_scale = 1;                 ///< denominator of the bound's JPEG scale
  double bound_images_per_second = 0;  ///< D: TurboJPEG alone at full scale, same threads
  double bound_scaled_images_per_second = 0;  ///< the same at 1/bound_scale
  double bound_cpu_seconds_per_image = 0;  ///< at full scale; unlike rates it stands busy machines
  double share_of_bound = 0;               ///< images_per_second / D
  double share_of_scaled_bound = 0;
  std::uint64_t digest = 0;
  LoaderStatistics statistics{};  ///< of the measured slices
  std::string verdict{};
};

/// Runs a loader over `options.data`. With a cache, one epoch fills it first.
BenchLoaderResult bench_loader(const BenchLoaderOptions& options);

/// The transform that `mode` stands for at `image_size`.
std::shared_ptr<const Transform> bench_transform(BenchMode mode, int image_size);

}  // namespace brim
