#include "brim/dataloader/decode_bound.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <turbojpeg.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "brim/cache/error.h"
#include "brim/dataloader/byte_source.h"
#include "brim/dataloader/decode.h"

namespace brim {
namespace {

struct Handle {
  tjhandle value = tjInitDecompress();
  Handle() = default;
  ~Handle() { tjDestroy(value); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
};

bool is_jpeg(std::span<const std::byte> bytes) {
  return bytes.size() > 3 && bytes[0] == std::byte{0xFF} && bytes[1] == std::byte{0xD8};
}

/// One TurboJPEG call to RGB; false where the file is bad.
bool decode(tjhandle handle, std::span<const std::byte> jpeg, int denominator,
            std::vector<std::uint8_t>& pixels) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(jpeg.data());
  const auto size = static_cast<unsigned long>(jpeg.size());
  int width = 0, height = 0, subsampling = 0, colours = 0;
  if (tjDecompressHeader3(handle, bytes, size, &width, &height, &subsampling, &colours) != 0) {
    return false;
  }
  const tjscalingfactor scale{1, denominator};
  const int scaled_width = TJSCALED(width, scale), scaled_height = TJSCALED(height, scale);
  const std::size_t need = std::size_t{3} * static_cast<std::size_t>(scaled_width) *
                           static_cast<std::size_t>(scaled_height);
  if (pixels.size() < need) pixels.resize(need);
  return tjDecompress2(handle, bytes, size, pixels.data(), scaled_width, 0, scaled_height, TJPF_RGB,
                       0) == 0;
}

double thread_cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void lower_priority(int niceness) {
  if (niceness <= 0) return;
  const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
  ::setpriority(PRIO_PROCESS, thread, std::min(::getpriority(PRIO_PROCESS, 0) + niceness, 19));
}

}  // namespace

DecodeBound::DecodeBound(const Dataset& dataset, const Options& options) : options_(options) {
  const std::int64_t count = std::min(dataset.size(), options.max_images);
  RecordScratch scratch;
  std::vector<std::byte> buffer;
  std::vector<std::uint8_t> pixels;
  Handle handle;
  for (std::int64_t i = 0; i < count && file_bytes_ < options.max_bytes; ++i) {
    const Record record = dataset.record(i * dataset.size() / count, scratch);
    if (record.encoding != Encoding::ImageFile) continue;
    try {
      const std::string path(record.source.path);
      const std::span<const std::byte> bytes = read_bytes(record, path, buffer);
      if (!is_jpeg(bytes) || !decode(handle.value, bytes, options.scale_denominator, pixels)) {
        continue;
      }
      files_.emplace_back(bytes.begin(), bytes.end());
      file_bytes_ += static_cast<std::int64_t>(bytes.size());
    } catch (const DecodeError&) {
      continue;  // the loader replaces it, too
    }
  }
  largest_pixels_ = static_cast<std::int64_t>(pixels.size());
}

void DecodeBound::run(double seconds) {
  if (files_.empty()) return;
  std::atomic<std::int64_t> next{next_};
  std::atomic<std::int64_t> cpu_ns{0};
  const auto begin = std::chrono::steady_clock::now();
  const auto end = begin + std::chrono::duration_cast<std::chrono::nanoseconds>(
                               std::chrono::duration<double>(seconds));
  const auto work = [&] {
    lower_priority(options_.niceness);
    Handle handle;
    std::vector<std::uint8_t> pixels;
    const double cpu_begin = thread_cpu_seconds();
    while (std::chrono::steady_clock::now() < end) {
      const std::int64_t file = next.fetch_add(1, std::memory_order_relaxed);
      decode(handle.value, files_[static_cast<std::size_t>(file % files())],
             options_.scale_denominator, pixels);
    }
    cpu_ns.fetch_add(static_cast<std::int64_t>(1e9 * (thread_cpu_seconds() - cpu_begin)));
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < std::max(options_.threads, 1); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  cpu_seconds_ += 1e-9 * static_cast<double>(cpu_ns.load());
  images_ += next.load() - next_;
  next_ = next.load();
}

double DecodeBound::images_per_second() const {
  return seconds_ > 0 ? static_cast<double>(images_) / seconds_ : 0;
}

double DecodeBound::cpu_seconds_per_image() const {
  return images_ > 0 ? cpu_seconds_ / static_cast<double>(images_) : 0;
}

}  // namespace brim
