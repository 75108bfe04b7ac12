// What the caches cost and give: small entries, start-up, hit rate, filling, cold reads, sharing.
// Usage: bench_cache [FOLDER [PART...]]   (a folder on the disk to measure; default: the working
// folder; parts: ram hits fill-ram fill-shared fill-disk fill-lmdb small cold;
// default: all)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <random>

#include "brim/cache/stores.h"
#include "brim/dataloader/loader.h"

namespace brim {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

CacheKey key_of(std::uint64_t i) {
  return make_cache_key({.path = "image", .offset = i, .length = 1}, "bench");
}

std::vector<std::byte> noise(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::mt19937_64 generator(1);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator());
  return bytes;
}

std::int64_t blocks_of(const std::string& folder) {
  std::int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    struct stat info {};
    if (::stat(entry.path().c_str(), &info) == 0) bytes += info.st_blocks * 512;
  }
  return bytes;
}

void drop_page_cache(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    ::fdatasync(file);
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

std::int64_t bytes_read_from_disk() {
  std::ifstream in("/proc/self/io");
  for (std::string name; in >> name;) {
    std::int64_t value = 0;
    in >> value;
    if (name == "read_bytes:") return value;
  }
  return 0;
}

/// 100,000 values of 2 KB: build, overhead, start-up.
void small_entries(CacheMode mode, const std::string& folder) {
  constexpr std::uint64_t kValues = 100000;
  const std::vector<std::byte> value = noise(2048);
  const CacheOptions options{
      .mode = mode, .directory = folder + "/small", .byte_limit = std::int64_t{1} << 30};
  const auto begin = Clock::now();
  {
    const auto store = make_store(options);
    for (std::uint64_t i = 0; i < kValues; ++i) store->put(key_of(i), value, 1);
    store->flush();
  }
  const double built = seconds_since(begin);
  const double overhead =
      static_cast<double>(blocks_of(options.directory)) / (2048.0 * kValues) - 1;
  const auto reopened = Clock::now();
  const auto store = make_store(options);
  Blob blob;
  const bool served = store->get(key_of(kValues / 2), blob);
  std::printf(
      "small %-5s %llu values of 2 KB: %.0f values/s built, overhead %.1f%%, start-up %.3f s%s\n",
      to_string(mode).c_str(), static_cast<unsigned long long>(store->stats().entries),
      kValues / built, 100 * overhead, seconds_since(reopened), served ? "" : ", LOST");
  fs::remove_all(options.directory);
}

/// JPEGs in memory, each with an identity of its own.
class Photos final : public Dataset {
 public:
  explicit Photos(std::int64_t count) : count_(count) {
    cv::Mat pixels(480, 640, CV_8UC3);
    cv::RNG generator(7);
    for (int i = 0; i < 8; ++i) {
      generator.fill(pixels, cv::RNG::UNIFORM, 0, 255);
      cv::GaussianBlur(pixels, pixels, {9, 9}, 2.5);
      std::vector<unsigned char> bytes;
      cv::imencode(".jpg", pixels, bytes);
      const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
      files_.emplace_back(data, data + bytes.size());
    }
  }
  std::int64_t size() const override { return count_; }
  Record record(std::int64_t index, RecordScratch&) const override {
    Record record;
    record.memory = files_[static_cast<std::size_t>(index) % files_.size()];
    record.source = {.path = "photo",
                     .offset = static_cast<std::uint64_t>(index),
                     .length = record.memory.size()};
    record.width = 640;
    record.height = 480;
    return record;
  }
  Task task() const override { return Task::Detect; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::uint64_t fingerprint() const override { return 0; }
  std::string path(std::int64_t) const override { return "photo"; }

 private:
  std::int64_t count_;
  std::vector<std::vector<std::byte>> files_;
  std::vector<std::string> names_{"thing"};
};

double run_epoch(Loader& loader, std::int64_t epoch) {
  const auto begin = Clock::now();
  loader.start(epoch);
  while (loader.next()) continue;
  return seconds_since(begin);
}

std::unique_ptr<Loader> photo_loader(std::shared_ptr<Store> cache, std::int64_t count,
                                     double fill_share) {
  static std::map<std::int64_t, std::shared_ptr<Photos>> sets;
  std::shared_ptr<Photos>& photos = sets[count];
  if (photos == nullptr) photos = std::make_shared<Photos>(count);
  return std::make_unique<Loader>(
      photos, make_letterbox_transform(640, 640),
      LoaderOptions{.batch_size = 16, .cache = std::move(cache), .fill_share = fill_share});
}

constexpr std::int64_t kPhotos = 400;
constexpr std::int64_t kPhotoBytes = 640 * 480 * 3 + 64;

/// What the second epoch finds in a cache that may hold a part of the images.
void hit_rates(CacheMode mode, const std::string& folder) {
  for (const int percent : {10, 35, 65, 90}) {
    const std::string directory = folder + "/hits";
    const auto cache = make_store({.mode = mode,
                                   .directory = directory,
                                   .byte_limit = kPhotos * kPhotoBytes * percent / 100,
                                   .budget = MemoryBudget::make()});
    const auto loader = photo_loader(cache, kPhotos, kFillAtOnce);
    run_epoch(*loader, 0);
    cache->flush();
    const std::int64_t held = cache->stats().entries;
    run_epoch(*loader, 1);
    std::printf("%-4s hit rate at a limit of %d%%: %.1f%% of lookups, %.1f%% of the images held\n",
                to_string(mode).c_str(), percent, 100 * loader->statistics().hit_rate(),
                100.0 * static_cast<double>(held) / kPhotos);
    fs::remove_all(directory);
  }
}

/// First epochs with a cache that fills, taking turns with epochs without: as the loader paces
/// itself, and with everything kept at once. Each is divided by the mean of its two neighbours.
void filling(const char* name, const std::function<std::shared_ptr<Store>(int)>& make) {
  constexpr int kRounds = 15;
  constexpr std::int64_t kCount = 3 * kPhotos;  // an epoch of a second or so
  std::vector<double> paced, kept, at_once, warm, same;
  // Fresh loaders throughout: the first epoch of each pays for its buffers.
  const auto without = [](int round) {
    return run_epoch(*photo_loader(nullptr, kCount, 0), round);
  };
  double before = (without(0), without(0));  // the first one warms up
  const auto ratio = [&](double seconds, int round) {
    const double after = without(round);
    same.push_back(after / before);
    return 2 * seconds / (before + std::exchange(before, after));
  };
  // What was measured is gone before its neighbour runs: memory that was freed is cheap to get.
  for (int round = 0; round < kRounds; ++round) {
    double first = 0;
    {
      const auto cache = make(round);
      first = run_epoch(*photo_loader(cache, kCount, LoaderOptions{}.fill_share), round);
      kept.push_back(static_cast<double>(cache->stats().entries) / kCount);
    }
    paced.push_back(ratio(first, round));
  }
  // After those: the system goes on writing for a while.
  for (int round = 0; round < kRounds / 3; ++round) {
    double first = 0, second = 0;
    {
      const auto eager = photo_loader(make(kRounds + round), kCount, kFillAtOnce);
      first = run_epoch(*eager, round);
      second = run_epoch(*eager, round + 1);
    }
    at_once.push_back(ratio(first, round));
    warm.push_back(ratio(second, round));
  }
  std::printf(
      "first epoch that fills %-12s %.3f of one without a cache, %.0f%% kept; at once %.3f; the "
      "next %.3f; one without beside the one before %.3f\n",
      name, median(paced), 100 * median(kept), median(at_once), median(warm), median(same));
}

/// 5% of large values in random order with nothing in the page cache, beside one packed file.
void cold_reads(const std::string& folder) {
  constexpr std::uint64_t kValues = 3000;
  constexpr std::size_t kBytes = 100000;
  const std::vector<std::byte> value = noise(kBytes);
  const std::string directory = folder + "/cold";
  const CacheOptions options{
      .mode = CacheMode::Lmdb, .directory = directory, .byte_limit = std::int64_t{1} << 30};
  {
    const auto store = make_store(options);
    for (std::uint64_t i = 0; i < kValues; ++i) store->put(key_of(i), value, 1);
    store->flush();
  }
  const std::string packed = directory + "/packed";
  {
    std::ofstream out(packed, std::ios::binary);
    for (std::uint64_t i = 0; i < kValues; ++i)
      out.write(reinterpret_cast<const char*>(value.data()), kBytes);
  }
  std::mt19937_64 generator(3);
  std::vector<double> ratios, amplifications;
  for (int round = 0; round < 7; ++round) {
    std::vector<std::uint64_t> picks;
    for (std::uint64_t i = 0; i < kValues / 20; ++i) picks.push_back(generator() % kValues);
    const auto in_windows = [&](auto&& hint, auto&& read) {
      constexpr std::size_t kAhead = 16;
      for (std::size_t i = 0; i < picks.size(); ++i) {
        if (i % kAhead == 0) hint(std::span(picks).subspan(i, std::min(kAhead, picks.size() - i)));
        read(picks[i]);
      }
    };
    drop_page_cache(directory);
    double packed_seconds = 0;
    {
      const int file = ::open(packed.c_str(), O_RDONLY | O_CLOEXEC);
      ::posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
      std::vector<std::byte> bytes(kBytes);
      const auto begin = Clock::now();
      in_windows(
          [&](std::span<const std::uint64_t> next) {
            for (const std::uint64_t i : next)
              ::posix_fadvise(file, static_cast<off_t>(i * kBytes), kBytes, POSIX_FADV_WILLNEED);
          },
          [&](std::uint64_t i) {
            if (::pread(file, bytes.data(), kBytes, static_cast<off_t>(i * kBytes)) < 0)
              std::abort();
          });
      packed_seconds = seconds_since(begin);
      ::close(file);
    }
    drop_page_cache(directory);
    const auto store = make_store(options);
    Blob blob;
    const std::int64_t before = bytes_read_from_disk();
    const auto begin = Clock::now();
    in_windows(
        [&](std::span<const std::uint64_t> next) {
          std::vector<CacheKey> keys;
          for (const std::uint64_t i : next) keys.push_back(key_of(i));
          store->will_need(keys);
        },
        [&](std::uint64_t i) {
          if (!store->get(key_of(i), blob))
            std::printf("LOST %llu\n", static_cast<unsigned long long>(i));
        });
    ratios.push_back(packed_seconds / seconds_since(begin));
    amplifications.push_back(static_cast<double>(bytes_read_from_disk() - before) /
                             static_cast<double>(picks.size() * kBytes));
  }
  std::printf(
      "lmdb cold, 5%% random sample: %.2f of a packed file's rate, %.2fx read amplification\n",
      median(ratios), median(amplifications));
  fs::remove_all(directory);
}

void ram_rates(const char* name, const std::string& share_name) {
  constexpr std::uint64_t kValues = 200;
  const std::vector<std::byte> value = noise(1 << 20);
  std::vector<double> puts, gets;
  for (int round = 0; round < 5; ++round) {
    const auto store =
        make_ram_store({.byte_limit = std::int64_t{400} << 20, .share_name = share_name});
    auto begin = Clock::now();
    for (std::uint64_t i = 0; i < kValues; ++i) store->put(key_of(i), value, 1);
    puts.push_back(1e6 * seconds_since(begin) / kValues);
    Blob blob;
    begin = Clock::now();
    for (std::uint64_t i = 0; i < 100 * kValues; ++i) store->get(key_of(i % kValues), blob);
    gets.push_back(1e9 * seconds_since(begin) / (100 * kValues));
  }
  std::printf("ram %-8s put of 1 MiB %.0f us, get %.0f ns\n", name, median(puts), median(gets));
}

}  // namespace
}  // namespace brim

int main(int count, char** arguments) {
  using namespace brim;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // also where it is written to a file
  std::string folder = std::string(count > 1 ? arguments[1] : ".") + "/bench-cache-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    std::perror(folder.c_str());
    return 1;
  }
  const auto wanted = [&](const std::string& part) {
    return count <= 2 || std::find(arguments + 2, arguments + count, part) != arguments + count;
  };
  if (wanted("ram")) {
    ram_rates("private", "");
    ram_rates("shared", "bench-" + std::to_string(::getpid()));
  }
  if (wanted("hits"))
    for (const CacheMode mode : {CacheMode::Ram, CacheMode::Disk, CacheMode::Lmdb})
      hit_rates(mode, folder);
  if (wanted("fill-ram")) filling("ram", [](int) { return make_ram_store({}); });
  if (wanted("fill-shared")) {
    filling("ram, shared", [](int round) {
      return make_ram_store(
          {.share_name = "bench-" + std::to_string(::getpid()) + "-" + std::to_string(round)});
    });
  }
  for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
    if (wanted("fill-" + to_string(mode)))
      filling(to_string(mode).c_str(), [&](int round) {
        const std::string directory = folder + "/fill" + std::to_string(round);
        std::filesystem::remove_all(folder + "/fill" + std::to_string(round - 1));
        return make_store(
            {.mode = mode, .directory = directory, .byte_limit = std::int64_t{2} << 30});
      });
  }
  if (wanted("small")) {
    small_entries(CacheMode::Disk, folder);
    small_entries(CacheMode::Lmdb, folder);
  }
  if (wanted("cold")) cold_reads(folder);
  std::filesystem::remove_all(folder);
  return 0;
}
