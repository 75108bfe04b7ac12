#include "brim/dataloader/cache_choice.h"

#include <gtest/gtest.h>

#include "brim/dataloader/dataset.h"
#include "brim/dataloader/transform.h"
#include "support/child_process.h"
#include "support/jpeg.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// 1000 photos: 100 KB files that decode to 1 MB in 4 ms.
CacheMeasurement photos() {
  return {.samples = 256,
          .encoded_bytes = 1e5,
          .decoded_bytes = 1e6,
          .load_ns = 5e4,
          .decode_ns = 4e6,
          .disk_bytes_per_ns = 2,
          .ram_bytes = 4000 * kMiB,
          .disk_bytes = 100000 * kMiB,
          .images = 1000};
}

TEST(CacheChoice, HoldsDecodedPixelsInMemoryThatHasRoom) {
  const CacheChoice choice = choose_cache(photos(), {});
  EXPECT_EQ(choice.mode, CacheMode::Ram);
  EXPECT_EQ(choice.content, CacheContent::Decoded);
  EXPECT_DOUBLE_EQ(choice.fraction, 1.0);
  EXPECT_NE(choice.why.find("100% of 1000 images"), std::string::npos) << choice.why;
}

TEST(CacheChoice, PutsMemoryInFrontOfADiskThatHoldsTheRest) {
  CacheMeasurement measured = photos();
  measured.ram_bytes = 300 * kMiB;
  const CacheChoice choice = choose_cache(measured, {});
  EXPECT_EQ(choice.mode, CacheMode::Tiered);
  EXPECT_NEAR(choice.ram_fraction, 0.28, 0.02);
  EXPECT_DOUBLE_EQ(choice.fraction, 1.0);
}

TEST(CacheChoice, TakesTheDiskAloneWhereMemoryIsShort) {
  CacheMeasurement measured = photos();
  measured.ram_bytes = 1 * kMiB;
  EXPECT_EQ(choose_cache(measured, {}).mode, CacheMode::Disk);
}

TEST(CacheChoice, HoldsFileBytesWhereReadingIsWhatCosts) {
  CacheMeasurement measured = photos();
  measured.load_ns = 50e6;  // over a network
  measured.ram_bytes = 200 * kMiB;
  measured.disk_bytes_per_ns = 0;
  const CacheChoice choice = choose_cache(measured, {});
  EXPECT_EQ(choice.mode, CacheMode::Ram);
  EXPECT_EQ(choice.content, CacheContent::Encoded);
}

TEST(CacheChoice, TakesNoneWhereReadingBackIsSlowerThanDecoding) {
  CacheMeasurement measured = photos();
  measured.ram_bytes = 0;
  measured.disk_bytes_per_ns = 1e6 / 5e6;  // 200 MB/s: 5 ms an image
  const CacheChoice choice = choose_cache(measured, {});
  EXPECT_EQ(choice.mode, CacheMode::None);
  EXPECT_TRUE(choice.why.starts_with("none")) << choice.why;
}

TEST(CacheChoice, LeavesWhatIsDecidedAlone) {
  CacheMeasurement measured = photos();
  measured.ram_bytes = 0;
  EXPECT_EQ(choose_cache(measured, {.mode = CacheMode::Lmdb}).mode, CacheMode::Lmdb);
  measured.disk_bytes_per_ns = 0;  // a folder that can only be read: its entries are of use
  EXPECT_EQ(choose_cache(measured, {.mode = CacheMode::Disk}).mode, CacheMode::Disk);
  const CacheChoice ram =
      choose_cache(photos(), {.mode = CacheMode::Ram, .content = CacheContent::Encoded});
  EXPECT_EQ(ram.mode, CacheMode::Ram);
  EXPECT_EQ(ram.content, CacheContent::Encoded);
}

TEST(CacheChoice, MeasuresASampleOfTheImages) {
  const TempDir folder;
  const FastDir disk;
  std::filesystem::create_directories(folder.file("train/a"));
  for (std::uint64_t i = 0; i < 5; ++i) {
    const ByteVector file = encode_jpeg(make_picture(96, 64, i).view());
    write_file(folder.file("train/a/" + std::to_string(i) + ".jpg"),
               {reinterpret_cast<const char*>(file.data()), file.size()});
  }
  const auto data = open_image_folder(folder.path().string());
  const auto transform = make_center_crop_transform(32);
  const auto budget = MemoryBudget::make({.byte_limit = 512 * kMiB});
  const CacheMeasurement measured =
      measure_for_cache(*data, *transform, {.batch_size = 2, .workers = 2}, *budget,
                        {.mode = CacheMode::Disk, .directory = disk.path() + "/not/made/yet"});
  EXPECT_EQ(measured.samples, 5);
  EXPECT_EQ(measured.images, 5);
  EXPECT_GT(measured.encoded_bytes, 100);
  EXPECT_GT(measured.decoded_bytes, 32 * 32 * 3 - 1);
  EXPECT_GT(measured.decode_ns, 0);
  EXPECT_GT(measured.disk_bytes, 0);
  EXPECT_GT(measured.disk_bytes_per_ns, 0);
  EXPECT_LT(measured.ram_bytes, 512 * kMiB);
}

}  // namespace
}  // namespace brim::test
