// A consumer may stop reading, throw or destroy the loader at any moment.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "brim/dataloader/loader.h"
#include "support/fake_data.h"
#include "support/jpeg.h"

namespace brim {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void spin(std::int64_t microseconds) {
  const auto end = Clock::now() + std::chrono::microseconds(microseconds);
  while (Clock::now() < end) {
  }
}

/// One random life of a loader; returns how long it took.
double abandon(std::uint64_t seed) {
  Generator g(seed, Purpose::User);
  const std::int64_t work = static_cast<std::int64_t>(g.below(200));
  const bool throws = g.chance(0.2);
  auto transform = std::make_shared<test::MixTransform>(test::MixTransform::Settings{
      .partners = static_cast<int>(g.below(4)), .on_apply = [=](const Recipe& recipe) {
        spin(work);
        if (throws && recipe.key % 64 == 0) throw std::runtime_error("a transform failed");
      }});
  auto dataset = std::make_shared<test::MemoryDataset>(
      test::MemoryDataset::Settings{.size = 1 + static_cast<std::int64_t>(g.below(200))});
  LoaderOptions options{.batch_size = 1 + static_cast<std::int64_t>(g.below(16)),
                        .workers = static_cast<int>(g.below(5)),
                        .seed = seed};
  std::vector<Batch> kept;
  std::thread stopper;
  const auto begin = Clock::now();
  {
    Loader loader(dataset, transform, options);
    for (std::uint64_t starts = 1 + g.below(3); starts > 0; --starts) {
      loader.start(static_cast<std::int64_t>(g.below(3)));
      if (g.chance(0.3) && !stopper.joinable()) {
        stopper = std::thread([&loader, pause = g.below(500)] {
          spin(static_cast<std::int64_t>(pause));
          loader.stop();
        });
      }
      try {
        for (std::uint64_t reads = g.below(12); reads > 0; --reads) {
          std::optional<Batch> batch = loader.next();
          if (!batch) break;
          if (g.chance(0.3)) kept.push_back(std::move(*batch));
        }
      } catch (const std::runtime_error&) {
      }
    }
    spin(static_cast<std::int64_t>(g.below(300)));
    if (stopper.joinable()) stopper.join();
  }
  for (const Batch& batch : kept) batch.digest();
  return seconds_since(begin);
}

TEST(LoaderAbandonment, NeverHangsAtAThousandRandomMoments) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    ASSERT_LT(abandon(seed), 1.0) << "seed " << seed;
  }
}

/// A picture whose decode takes long, from few pixels to make.
test::ByteVector large_jpeg(bool progressive) {
  const Image tile = test::make_picture(1000, 50, 1);
  Image picture;
  picture.resize(2000, 1500);
  const MutableImageView to = picture.mutable_view();
  for (int y = 0; y < picture.height(); ++y) {
    for (int x = 0; x < picture.width(); x += tile.width()) {
      std::memcpy(to.row(y) + 3 * x, tile.view().row(y % tile.height()), 3 * std::size_t{1000});
    }
  }
  return test::encode_jpeg(picture.view(), {.quality = 95, .progressive = progressive});
}

TEST(LoaderAbandonment, DoesNotWaitForALargePicture) {
  for (const bool progressive : {false, true}) {
    auto dataset = std::make_shared<test::MemoryDataset>(
        test::MemoryDataset::Settings{.size = 4},
        std::vector<test::ByteVector>(4, large_jpeg(progressive)));
    Loader loader(dataset, std::make_shared<test::MixTransform>(test::MixTransform::Settings{}),
                  {.batch_size = 4, .workers = 2, .niceness = 0});
    auto begin = Clock::now();
    loader.start(0);
    ASSERT_TRUE(loader.next().has_value());
    const double whole = seconds_since(begin) / 2;  // two pictures each
    std::vector<double> stops;
    for (int i = 0; i < 9; ++i) {
      loader.start(i);
      spin(static_cast<std::int64_t>(whole * 1e6 * (1 + i) / 20));
      begin = Clock::now();
      loader.stop();
      stops.push_back(seconds_since(begin));
    }
    std::sort(stops.begin(), stops.end());
    EXPECT_LT(stops[4], whole / 8) << (progressive ? "progressive" : "baseline");
  }
}

TEST(LoaderAbandonment, ABatchOutlivesItsLoaderInAnotherThread) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::thread user;
    {
      Loader loader(
          std::make_shared<test::MemoryDataset>(test::MemoryDataset::Settings{.size = 64}),
          std::make_shared<test::MixTransform>(test::MixTransform::Settings{}),
          {.batch_size = 4, .workers = 2});
      loader.start(0);
      Batch batch = *loader.next();
      user = std::thread([digest = batch.digest(), held = std::move(batch), seed]() mutable {
        spin(100);
        EXPECT_EQ(held.digest(), digest) << "seed " << seed;
        held = Batch();
      });
      for (int i = 0; i < 5; ++i) loader.next();
    }
    user.join();
  }
}

}  // namespace
}  // namespace brim
