#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "brim/cache/stores.h"
#include "brim/dataloader/loader_options.h"

namespace brim {

/// What is done to an image's bytes before they are kept: part of the keys of a loader's cache.
std::string cache_recipe(const Transform& transform, const LoaderOptions& options);

/// What the images of a dataset cost, measured on a sample of it.
struct CacheMeasurement {
  std::int64_t samples = 0;      ///< images looked at
  double encoded_bytes = 0;      ///< mean per image
  double decoded_bytes = 0;      ///< mean per image, as the transform needs it
  double load_ns = 0;            ///< mean to read a file
  double decode_ns = 0;          ///< mean to decode it
  double disk_bytes_per_ns = 0;  ///< read rate of the cache folder; 0: not measured or unusable
  std::int64_t ram_bytes = 0;    ///< the budget leaves so much for a cache
  std::int64_t disk_bytes = 0;   ///< may be used in the cache folder
  std::int64_t images = 0;       ///< of the dataset
};

struct CacheChoice {
  CacheMode mode = CacheMode::None;
  CacheContent content = CacheContent::Decoded;
  double fraction = 0;      ///< of the images that fit
  double ram_fraction = 0;  ///< of the images that fit into the tier in memory
  double saved_ns = 0;      ///< expected, mean per image
  double cost_ns = 0;       ///< without a cache, mean per image
  std::string why{};        ///< one line for the user
};

/// What is decided already; the rest is chosen.
struct CacheWish {
  std::optional<CacheMode> mode{};
  std::optional<CacheContent> content{};
  std::int64_t byte_limit = 0;  ///< of the cache; 0: as much as there is
  std::string directory{};      ///< of caches on disk; empty: none
  std::int64_t samples = 256;   ///< images to measure, fewer where the dataset is smaller
};

/// Loads and decodes evenly spread images on the threads that `options` plans for, and the read
/// rate of the cache folder where memory does not hold all. Files that cannot be decoded are left
/// out; `samples` is 0 where none can, or where the dataset holds raw pixels.
CacheMeasurement measure_for_cache(const Dataset& dataset, const Transform& transform,
                                   const LoaderOptions& options, MemoryBudget& budget,
                                   const CacheWish& wish);

/// The mode, content and fraction that save most time per image; None where a cache would save
/// less than 2%.
CacheChoice choose_cache(const CacheMeasurement& measured, const CacheWish& wish);

}  // namespace brim
