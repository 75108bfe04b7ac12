// A consumer may stop reading, throw or destroy the loader at any moment.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "brim/dataloader/loader.h"
#include "support/fake_data.h"

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

/// One random life of a loader; returns the longest that any single call took.
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
