// Law 1 over caches: none, cold, warm, half built and full stores give the same batches.
#include <gtest/gtest.h>

#include "brim/cache/stores.h"
#include "brim/dataloader/loader.h"
#include "support/fake_data.h"
#include "support/jpeg.h"
#include "support/test_data.h"

namespace brim {
namespace {

/// JPEGs of several sizes and shapes, all in memory; every 17th is cut short.
std::shared_ptr<const Dataset> pictures(std::int64_t count) {
  std::vector<std::vector<std::byte>> files;
  for (std::int64_t i = 0; i < count; ++i) {
    Generator g(static_cast<std::uint64_t>(i), Purpose::User);
    const auto width = static_cast<int>(20 + g.below(180));
    const auto height = static_cast<int>(20 + g.below(180));
    const Image image = test::make_picture(width, height, static_cast<std::uint64_t>(i));
    files.push_back(test::encode_jpeg(
        image.view(), {.progressive = g.chance(0.2), .orientation = static_cast<int>(g.below(9))}));
    if (i % 17 == 5) files.back().resize(files.back().size() / 2);
  }
  return std::make_shared<test::MemoryDataset>(
      test::MemoryDataset::Settings{.size = count, .name = "jpeg"}, std::move(files));
}

std::vector<std::shared_ptr<const Transform>> transforms() {
  return {make_detection_transform(96, {.degrees = 10, .mosaic = 0.8, .mixup = 0.2}),
          make_letterbox_transform(96, 64), make_classification_transform(48),
          make_center_crop_transform(48)};
}

std::vector<std::uint64_t> digests(const std::shared_ptr<const Dataset>& dataset,
                                   const std::shared_ptr<const Transform>& transform,
                                   LoaderOptions options, std::int64_t epoch) {
  options.max_bad_fraction = 1;
  options.batch_size = 8;
  Loader loader(dataset, transform, options);
  std::vector<std::uint64_t> result;
  loader.start(epoch);
  while (const std::optional<Batch> batch = loader.next()) result.push_back(batch->digest());
  return result;
}

std::shared_ptr<Store> store_of(CacheMode mode, const std::string& directory,
                                std::int64_t byte_limit) {
  return make_store({.mode = mode,
                     .directory = directory,
                     .byte_limit = byte_limit,
                     .budget = MemoryBudget::make({.byte_limit = std::int64_t{1} << 30})});
}

TEST(LawOfOneResult, CachesDoNotChangeBatches) {
  const auto dataset = pictures(60);
  for (const auto& transform : transforms()) {
    for (const Partners partners : {Partners::Window, Partners::Uniform}) {
      const LoaderOptions plain{.workers = 0, .seed = 5, .partners = partners};
      const auto expected = digests(dataset, transform, plain, 1);
      for (const CacheMode mode :
           {CacheMode::Ram, CacheMode::Disk, CacheMode::Lmdb, CacheMode::Tiered}) {
        // The small store is full long before the set is in it. LMDB and disk need room to begin.
        for (const std::int64_t limit : {std::int64_t{400} << 10, std::int64_t{64} << 20}) {
          const test::TempDir folder;
          LoaderOptions options = plain;
          options.workers = 2;
          options.cache = store_of(mode, folder.file("store"), limit);
          options.fill_share = kFillAtOnce;
          const std::string where =
              transform->describe() + " " + to_string(mode) + " " + format_bytes(limit);
          ASSERT_EQ(digests(dataset, transform, options, 1), expected) << where << " cold";
          ASSERT_EQ(digests(dataset, transform, options, 1), expected) << where << " warm";
          EXPECT_TRUE(limit < (1 << 20) || options.cache->stats().hits > 0) << where;
          options.cache->flush();
          options.cache = nullptr;
          options.cache = store_of(mode, folder.file("store"), limit);
          ASSERT_EQ(digests(dataset, transform, options, 1), expected) << where << " reopened";
        }
      }
    }
  }
}

TEST(LawOfOneResult, EncodedCachesAndHalfBuiltOnesChangeNothing) {
  BRIM_TEST_DATA_OR_SKIP(folder, "data/detect_coco_ccby_mini/data.yaml");
  const auto dataset = open_yolo(folder);
  for (const auto& transform : transforms()) {
    const LoaderOptions plain{.workers = 0, .seed = 6};
    const auto expected = digests(dataset, transform, plain, 0);
    for (const CacheContent content : {CacheContent::Encoded, CacheContent::Decoded}) {
      LoaderOptions options = plain;
      options.workers = 2;
      options.cache_content = content;
      options.fill_share = content == CacheContent::Encoded ? kFillAtOnce : 0.5;
      options.cache = store_of(CacheMode::Ram, {}, std::int64_t{64} << 20);
      {
        Loader half(dataset, transform, options);
        half.start(3);
        half.next();
      }
      ASSERT_EQ(digests(dataset, transform, options, 0), expected) << transform->describe();
      ASSERT_EQ(digests(dataset, transform, options, 0), expected) << transform->describe();
      EXPECT_GT(options.cache->stats().hits, 0);
    }
  }
}

/// Digests of the samples of rank `options.rank`, from batch `first` on.
std::vector<std::uint64_t> sample_digests(Loader& loader, std::int64_t first) {
  std::vector<std::uint64_t> result;
  loader.start(2, first);
  while (const std::optional<Batch> batch = loader.next()) {
    for (std::int64_t i = 0; i < batch->size(); ++i) result.push_back(batch->sample_digest(i));
  }
  return result;
}

TEST(LawOfOneResult, CachesWorkersRanksAndStartsTogetherChangeNothing) {
  constexpr std::int64_t kGlobalBatch = 16, kSamples = 96;
  const auto dataset = pictures(kSamples);
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Generator g(seed, Purpose::User);
    const auto transform = transforms()[g.below(4)];
    LoaderOptions plain{.batch_size = kGlobalBatch, .workers = 0, .seed = g.next()};
    plain.partners = g.chance(0.5) ? Partners::Window : Partners::Uniform;
    plain.order = g.chance(0.3) ? Order::Sequential : Order::Shuffled;
    plain.window = 1 + static_cast<int>(g.below(20));
    plain.max_bad_fraction = 1;
    Loader whole(dataset, transform, plain);
    const std::vector<std::uint64_t> expected = sample_digests(whole, 0);
    for (const CacheMode mode :
         {CacheMode::None, CacheMode::Ram, CacheMode::Disk, CacheMode::Lmdb, CacheMode::Tiered}) {
      const test::TempDir folder;
      LoaderOptions options = plain;
      options.cache = store_of(mode, folder.file("store"), std::int64_t{64} << 20);
      for (const int workers : {0, 1, 2, 3, 8}) {
        options.workers = workers;
        options.ranks = 1 << g.below(4);
        options.rank = static_cast<int>(g.below(static_cast<std::uint64_t>(options.ranks)));
        options.batch_size = kGlobalBatch / options.ranks;
        const auto first = static_cast<std::int64_t>(g.below(kSamples / kGlobalBatch));
        std::vector<std::uint64_t> rest;
        for (auto i = static_cast<std::size_t>(first * kGlobalBatch + options.rank);
             i < expected.size(); i += static_cast<std::size_t>(options.ranks)) {
          rest.push_back(expected[i]);
        }
        Loader loader(dataset, transform, options);
        ASSERT_EQ(sample_digests(loader, first), rest)
            << "seed " << seed << ", " << to_string(mode) << ", " << workers << " workers, rank "
            << options.rank << " of " << options.ranks << ", from batch " << first;
      }
    }
  }
}

}  // namespace
}  // namespace brim
