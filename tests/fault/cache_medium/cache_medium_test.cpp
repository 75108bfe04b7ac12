// Whatever happens to the medium of a cache, the epoch's batches are those without a cache.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "brim/cache/error.h"
#include "brim/cache/stores.h"
#include "brim/dataloader/loader.h"
#include "brim/dataloader/random.h"
#include "support/child_process.h"
#include "support/fake_data.h"
#include "support/jpeg.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kImages = 24;
constexpr int kSide = 96;
constexpr int kSkipped = 77;

std::vector<ByteVector> pictures(std::uint64_t seed) {
  std::vector<ByteVector> all;
  for (std::int64_t i = 0; i < kImages; ++i)
    all.push_back(
        encode_jpeg(make_picture(kSide, kSide, seed + static_cast<std::uint64_t>(i)).view()));
  return all;
}

std::uint64_t digest(const std::shared_ptr<const Dataset>& data, std::shared_ptr<Store> cache,
                     int epochs = 2) {
  const auto transform = std::make_shared<MixTransform>(MixTransform::Settings{});
  Loader loader(data, transform,
                {.batch_size = 5,
                 .workers = 2,
                 .cache = std::move(cache),
                 .fill_share = kFillAtOnce,
                 .budget = MemoryBudget::make({.byte_limit = 256 << 20})});
  std::uint64_t mixed = 0;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    loader.start(epoch);
    while (const std::optional<Batch> batch = loader.next()) mixed = mix64(mixed, batch->digest());
  }
  return mixed;
}

/// The digest that `make` gives, computed in a child: threads of a loader do not survive a fork,
/// so nothing that forks may have run one.
std::uint64_t digest_in_child(const std::function<std::uint64_t()>& make) {
  const TempDir folder;
  const std::string end = in_child([&] {
    write_file(folder.file("digest"), std::to_string(make()));
    return 0;
  });
  EXPECT_EQ(end, "exit 0");
  return std::stoull("0" + read_file(folder.file("digest")));
}

/// A cache medium of a test: the loader meets it in a child of its own.
class CacheMedium : public testing::TestWithParam<CacheMode> {
 protected:
  static void SetUpTestSuite() {
    data_ = std::make_shared<MemoryDataset>(
        MemoryDataset::Settings{.size = kImages, .width = kSide, .height = kSide}, pictures(1));
    expected_ = digest_in_child([] { return digest(data_, nullptr); });
  }
  static void TearDownTestSuite() { data_.reset(); }

  static std::shared_ptr<Store> open(const std::string& directory) {
    return make_store({.mode = GetParam(),
                       .directory = directory,
                       .byte_limit = 64 << 20,
                       .budget = MemoryBudget::make({.byte_limit = 128 << 20})});
  }

  enum class Says { Nothing, Trouble, Damage };
  /// `prepare` meets the child's limits; the loader runs; 0: the right batches and the right words.
  static std::string in_trouble(
      const std::string& directory, Says says,
      const std::function<int()>& prepare = [] { return 0; }) {
    return in_child([&] {
      if (const int code = prepare(); code != 0) return code;
      const std::shared_ptr<Store> store = open(directory);
      if (digest(data_, store) != expected_) return 1;
      store->flush();  // what is written behind meets the medium now
      const StoreStats stats = store->stats();
      // One line: whoever shows it once has told all there is to say.
      if (stats.last_error.find('\n') != std::string::npos) return 2;
      if (says == Says::Trouble && stats.last_error.empty()) return 3;
      if (says == Says::Damage && stats.damaged == 0 && stats.last_error.empty()) return 4;
      return 0;
    });
  }

  /// Fills a cache in `directory`, in a child so that nothing of it stays open here.
  static void fill(const std::string& directory) {
    ASSERT_EQ(in_trouble(directory, Says::Nothing), "exit 0");
  }

  std::vector<std::string> files_of(const std::string& directory) const {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
      const std::string name = entry.path().filename().string();
      if (name == "data.mdb" || name.starts_with("segment-")) files.push_back(entry.path());
    }
    return files;
  }

  static inline std::shared_ptr<MemoryDataset> data_;
  static inline std::uint64_t expected_ = 0;
  TempDir folder_;
};

INSTANTIATE_TEST_SUITE_P(Modes, CacheMedium,
                         testing::Values(CacheMode::Disk, CacheMode::Lmdb, CacheMode::Tiered),
                         [](const auto& mode) { return to_string(mode.param); });

/// A file system of its own for as long as the object lives; false where that is not permitted.
class SmallMount {
 public:
  SmallMount(std::string at, const std::string& options) : at_(std::move(at)) {
    fs::create_directories(at_);
    mounted_ = ::mount("tmpfs", at_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallMount() {
    if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  SmallMount(const SmallMount&) = delete;
  SmallMount& operator=(const SmallMount&) = delete;
  explicit operator bool() const { return mounted_; }
  bool make_read_only() const {
    return ::mount("tmpfs", at_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }

 private:
  std::string at_;
  bool mounted_ = false;
};

TEST_P(CacheMedium, ThatIsFullLosesNoSample) {
  const SmallMount mount(folder_.file("small"), "size=160k");
  if (!mount) GTEST_SKIP() << "may not mount a small file system here";
  EXPECT_EQ(in_trouble(folder_.file("small"), Says::Trouble), "exit 0");
}

TEST_P(CacheMedium, WithoutRoomForAnotherFileLosesNoSample) {
  const SmallMount mount(folder_.file("small"), "size=64m,nr_inodes=4");
  if (!mount) GTEST_SKIP() << "may not mount a small file system here";
  // LMDB's two files, or the disk cache's folder and lock, still fit; not all modes notice.
  const std::string end = in_child([&] {
    std::shared_ptr<Store> store;
    try {
      store = open(folder_.file("small"));
    } catch (const Error& error) {
      return error.where().key == "loader.cache_dir" && !error.hint().empty() ? 0 : 1;
    }
    return digest(data_, store) == expected_ ? 0 : 2;
  });
  EXPECT_EQ(end, "exit 0");
}

TEST_P(CacheMedium, WithAQuotaLosesNoSample) {
  const SmallMount mount(folder_.file("small"), "size=64m,usrquota_block_hardlimit=160k");
  if (!mount) GTEST_SKIP() << "this kernel's tmpfs has no quota (the cache's own tests inject it)";
  ::chmod(folder_.file("small").c_str(), 0777);
  ::chmod(folder_.path().c_str(), 0755);
  EXPECT_EQ(in_trouble(folder_.file("small"), Says::Trouble,
                       [] { return ::setuid(65534) == 0 ? 0 : kSkipped; }),
            "exit 0");
}

TEST_P(CacheMedium, WithAFileSizeLimitLosesNoSample) {
  EXPECT_EQ(in_trouble(folder_.file("cache"), Says::Trouble,
                       [] {
                         ::signal(SIGXFSZ, SIG_IGN);
                         const rlimit limit{128 << 10, 128 << 10};
                         return ::setrlimit(RLIMIT_FSIZE, &limit) == 0 ? 0 : kSkipped;
                       }),
            "exit 0");
}

TEST_P(CacheMedium, ThatIsReadOnlyServesWhatItHas) {
  const SmallMount mount(folder_.file("small"), "size=64m");
  if (!mount) GTEST_SKIP() << "may not mount a file system here";
  fill(folder_.file("small"));
  if (!mount.make_read_only()) GTEST_SKIP() << "may not mount it again for reading only";
  EXPECT_EQ(in_trouble(folder_.file("small"), Says::Trouble), "exit 0");
}

TEST_P(CacheMedium, WithoutPermissionServesWhatItHas) {
  fill(folder_.file("cache"));
  ::chmod(folder_.path().c_str(), 0755);
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path()))
    ::chmod(entry.path().c_str(), entry.is_directory() ? 0555 : 0444);
  const std::string end = in_trouble(folder_.file("cache"), Says::Trouble, [&] {
    if (::getuid() == 0 && ::setuid(65534) != 0) return kSkipped;
    return ::access(folder_.file("cache").c_str(), W_OK) == 0 ? kSkipped : 0;
  });
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path()))
    ::chmod(entry.path().c_str(), entry.is_directory() ? 0755 : 0644);
  if (end == "exit " + std::to_string(kSkipped))
    GTEST_SKIP() << "cannot give up the permission to write here";
  EXPECT_EQ(end, "exit 0");
}

TEST_P(CacheMedium, WithFlippedBitsAndCutFilesMakesTheEntriesAnew) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 6; ++round) {
    fill(folder_.file("cache"));
    for (const std::string& file : files_of(folder_.file("cache"))) {
      std::string bytes = read_file(file);
      ASSERT_FALSE(bytes.empty());
      if (round == 5) bytes.resize(random() % bytes.size());
      for (int flips = 0; round < 5 && flips < 1 << 2 * round; ++flips)
        bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
      std::ofstream(file, std::ios::binary) << bytes;
    }
    EXPECT_EQ(in_trouble(folder_.file("cache"), Says::Nothing), "exit 0") << "round " << round;
  }
}

TEST_P(CacheMedium, WhoseValuesAreAllDamagedSaysSo) {
  fill(folder_.file("cache"));
  for (const std::string& file : files_of(folder_.file("cache"))) {
    std::string bytes = read_file(file);
    for (std::size_t at = 64; at < bytes.size(); at += 512) bytes[at] ^= 0x10;
    std::ofstream(file, std::ios::binary) << bytes;
  }
  EXPECT_EQ(in_trouble(folder_.file("cache"), Says::Damage), "exit 0");
}

/// Image files of a folder per class, all written at `seconds` since 1970.
void write_images(const std::string& folder, std::uint64_t seed, std::int64_t seconds) {
  const std::vector<ByteVector> all = pictures(seed);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string path =
        folder + "/train/" + (i % 2 == 0 ? "even/" : "odd/") + std::to_string(i) + ".jpg";
    write_file(path, std::string(reinterpret_cast<const char*>(all[i].data()), all[i].size()));
    const timespec times[2] = {{.tv_sec = seconds, .tv_nsec = 0},
                               {.tv_sec = seconds, .tv_nsec = 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  }
}

/// What depends on a clock are the times of the image files: they name the entries, are compared
/// for equality and never ordered.
TEST_P(CacheMedium, IsNotStaleWhenTheClockWasSetBack) {
  const auto batches = [&](const std::string& cache) {
    return digest_in_child([&] {
      const auto data =
          open_dataset(folder_.file("set"), {.index_directory = folder_.file("index")});
      return digest(data, cache.empty() ? nullptr : open(cache));
    });
  };
  std::vector<std::uint64_t> seen;
  // Now, then as if written ten years earlier, then ten years from now.
  for (const std::int64_t seconds : {1700000000, 1400000000, 2000000000}) {
    write_images(folder_.file("set"), static_cast<std::uint64_t>(seconds), seconds);
    const std::uint64_t expected = batches("");
    for (const std::uint64_t before : seen) ASSERT_NE(before, expected) << "the images are others";
    seen.push_back(expected);
    for (int start = 0; start < 2; ++start) {
      EXPECT_EQ(batches(folder_.file("cache")), expected) << "cold or warm, at " << seconds;
    }
  }
}

}  // namespace
}  // namespace brim::test
