#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "brim/dataloader/dataset.h"

namespace brim {

/// The decode bound that loaders are measured against: libjpeg-turbo's own TurboJPEG call on the
/// same JPEG files, held in memory, into one reused buffer per thread, and nothing else.
///
///   DecodeBound bound(*dataset, {.threads = 2});
///   bound.run(1.0);                       // as often as wanted, between slices of other work
///   double d = bound.images_per_second();
class DecodeBound {
 public:
  struct Options {
    int threads = 1;
    int scale_denominator = 1;      ///< 1, 2, 4 or 8: decode at that fraction of the size
    int niceness = 0;               ///< added to the process's own, as the loader's workers have it
    std::int64_t max_images = 512;  ///< evenly spread over the dataset
    std::int64_t max_bytes = std::int64_t{256} << 20;
  };
  DecodeBound(const Dataset& dataset, const Options& options);

  /// Decodes for about `seconds` on all threads.
  void run(double seconds);
  std::int64_t files() const { return static_cast<std::int64_t>(files_.size()); }
  std::int64_t file_bytes() const { return file_bytes_; }
  /// Most that run() takes besides: pixels, and the coefficients of progressive files.
  std::int64_t peak_bytes() const { return 3 * options_.threads * largest_pixels_; }
  /// Of everything run so far; 0 where the dataset holds no JPEG.
  double images_per_second() const;
  double cpu_seconds_per_image() const;

 private:
  Options options_;
  std::vector<std::vector<std::byte>> files_;
  std::int64_t file_bytes_ = 0, largest_pixels_ = 0;
  std::int64_t next_ = 0;
  std::int64_t images_ = 0;
  double seconds_ = 0;
  double cpu_seconds_ = 0;
};

}  // namespace brim
