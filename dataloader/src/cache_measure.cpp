#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "brim/cache/error.h"
#include "brim/dataloader/byte_source.h"
#include "brim/dataloader/cache_choice.h"
#include "brim/dataloader/dataset.h"
#include "brim/dataloader/transform.h"
#include "dataset_parallel.h"
#include "statistics_recorder.h"

namespace brim {
namespace {

/// Written to the cache folder to learn how fast it is read.
constexpr std::size_t kProbeBytes = std::size_t{16} << 20;
constexpr std::size_t kProbeBlock = std::size_t{1} << 20;
/// Left free on the disk of a cache.
constexpr double kFreeShare = 0.9;

struct Sums {
  std::int64_t samples = 0, encoded = 0, decoded = 0, load_ns = 0, decode_ns = 0;
};

Sums measure_block(const Dataset& dataset, const DecodeRequest& request, const DecodeLimits& limits,
                   std::int64_t begin, std::int64_t end, std::int64_t count) {
  Sums sums;
  Decoder decoder(limits);
  RecordScratch scratch;
  std::vector<std::byte> file;
  Image image;
  for (std::int64_t i = begin; i < end; ++i) {
    const Record record = dataset.record(i * dataset.size() / count, scratch);
    if (record.encoding != Encoding::ImageFile) continue;
    try {
      const std::string path(record.source.path);
      const std::int64_t start = detail::now_ns();
      const std::span<const std::byte> bytes =
          record.memory.empty() ? read_bytes(record, path, file) : record.memory;
      const std::int64_t loaded = detail::now_ns();
      decoder.decode(bytes, request, {}, image);
      sums.decode_ns += detail::now_ns() - loaded;
      sums.load_ns += loaded - start;
      sums.encoded += static_cast<std::int64_t>(bytes.size());
      sums.decoded += static_cast<std::int64_t>(image.bytes().size());
      ++sums.samples;
    } catch (const DecodeError&) {
      continue;  // the loader puts it in quarantine
    }
  }
  return sums;
}

/// Bytes per ns that the folder's disk gives with nothing in the page cache; 0: not usable.
double disk_rate(const std::string& directory) {
  std::string name = directory + "/measure-XXXXXX";
  const int file = ::mkostemp(name.data(), O_CLOEXEC);
  if (file < 0) return 0;
  ::unlink(name.c_str());
  std::vector<std::byte> block(kProbeBlock, std::byte{0x5A});
  bool good = true;
  for (std::size_t at = 0; at < kProbeBytes && good; at += kProbeBlock)
    good = ::pwrite(file, block.data(), kProbeBlock, static_cast<off_t>(at)) ==
           static_cast<ssize_t>(kProbeBlock);
  good = good && ::fdatasync(file) == 0;
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  const std::int64_t begin = detail::now_ns();
  for (std::size_t at = 0; at < kProbeBytes && good; at += kProbeBlock)
    good = ::pread(file, block.data(), kProbeBlock, static_cast<off_t>(at)) ==
           static_cast<ssize_t>(kProbeBlock);
  const std::int64_t took = std::max<std::int64_t>(1, detail::now_ns() - begin);
  ::close(file);
  return good ? static_cast<double>(kProbeBytes) / static_cast<double>(took) : 0;
}

/// The folder itself, or its nearest parent that is there.
std::string existing(std::string directory) {
  struct stat info {};
  while (directory.size() > 1 && ::stat(directory.c_str(), &info) != 0) {
    const std::size_t slash = directory.find_last_of('/');
    directory =
        slash == std::string::npos ? "." : directory.substr(0, std::max<std::size_t>(slash, 1));
  }
  return directory;
}

}  // namespace

CacheMeasurement measure_for_cache(const Dataset& dataset, const Transform& transform,
                                   const LoaderOptions& options, MemoryBudget& budget,
                                   const CacheWish& wish) {
  const LoaderPlan plan = make_plan(options, dataset, transform, budget);
  CacheMeasurement measured{.images = dataset.size()};
  measured.ram_bytes = std::max<std::int64_t>(0, budget.available() - plan.total_bytes);
  const std::int64_t count = std::min(dataset.size(), std::max<std::int64_t>(wish.samples, 1));
  Sums all;
  detail::ordered_blocks(
      count, 8, std::max(plan.workers, 1),
      [&](std::int64_t begin, std::int64_t end) {
        return measure_block(dataset, transform.decode_request(), options.decode, begin, end,
                             count);
      },
      [&](const Sums& sums) {
        all.samples += sums.samples;
        all.encoded += sums.encoded;
        all.decoded += sums.decoded;
        all.load_ns += sums.load_ns;
        all.decode_ns += sums.decode_ns;
      });
  if (all.samples == 0) return measured;  // raw pixels, or nothing that decodes
  const auto mean = [&](std::int64_t sum) {
    return static_cast<double>(sum) / static_cast<double>(all.samples);
  };
  measured.samples = all.samples;
  measured.encoded_bytes = mean(all.encoded);
  measured.decoded_bytes = mean(all.decoded);
  measured.load_ns = mean(all.load_ns);
  measured.decode_ns = mean(all.decode_ns);
  const double needed = measured.decoded_bytes * static_cast<double>(measured.images);
  const bool ram_holds_all = needed < kFreeShare * static_cast<double>(measured.ram_bytes);
  const bool ram_decided = wish.mode == CacheMode::Ram || (!wish.mode && ram_holds_all);
  if (!wish.directory.empty() && !ram_decided) {
    const std::string folder = existing(wish.directory);
    struct statvfs info {};
    if (::statvfs(folder.c_str(), &info) == 0)
      measured.disk_bytes = static_cast<std::int64_t>(
          kFreeShare * static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize));
    measured.disk_bytes_per_ns = disk_rate(folder);
  }
  return measured;
}

}  // namespace brim
