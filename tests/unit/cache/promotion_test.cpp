#include "cache/src/promotion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "support/cache_values.h"

namespace brim::test {
namespace {

using detail::Promotion;

constexpr std::size_t kBytes = 1000;

/// What a set of values costs to read, and epochs over it in random order; the fast tier holds
/// `room` of them.
struct Epochs {
  std::vector<std::int64_t> cost_ns;
  std::int64_t room = 0;
  std::mt19937_64 random{3};
  std::vector<bool> taken = std::vector<bool>(cost_ns.size());

  void run(Promotion& promotion) {
    std::vector<std::uint64_t> order(cost_ns.size());
    for (std::uint64_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (const std::uint64_t i : order)
      if (!taken[i] && promotion.was_read(key_of(i), kBytes, cost_ns[i]) && room > 0) {
        taken[i] = true;
        --room;
      }
  }
  std::int64_t count(std::size_t from, std::size_t to) const {
    return std::count(taken.begin() + static_cast<std::ptrdiff_t>(from),
                      taken.begin() + static_cast<std::ptrdiff_t>(to), true);
  }
};

/// Value i takes (i + 1) * 1000 ns.
Epochs rising(std::size_t values, std::int64_t room) {
  Epochs epochs;
  epochs.room = room;
  for (std::size_t i = 0; i < values; ++i)
    epochs.cost_ns.push_back(static_cast<std::int64_t>(i + 1) * 1000);
  epochs.taken.resize(values);
  return epochs;
}

TEST(Promotion, TakesTheValuesThatCostMostPerByteOnceItKnowsThem) {
  constexpr std::size_t kValues = 4000;
  Promotion promotion([] { return static_cast<std::int64_t>(kBytes * kValues / 4); });
  Epochs epochs = rising(kValues, kValues / 4);
  epochs.run(promotion);
  EXPECT_FALSE(promotion.is_decided());
  EXPECT_LE(epochs.count(0, kValues), static_cast<std::int64_t>(kValues / 32 + 1));
  epochs.run(promotion);
  EXPECT_TRUE(promotion.is_decided());
  epochs.run(promotion);
  const std::int64_t dear = epochs.count(kValues * 3 / 4, kValues);
  EXPECT_GT(dear, static_cast<std::int64_t>(kValues) / 4 * 4 / 5) << "of those that fit";
  EXPECT_LT(epochs.count(0, kValues / 2), static_cast<std::int64_t>(kValues) / 40);
}

TEST(Promotion, PrefersSmallValuesOfTheSameCost) {
  Promotion promotion([] { return std::int64_t{100} * 100; });
  for (int epoch = 0; epoch < 2; ++epoch)
    for (std::uint64_t i = 0; i < 200; ++i)
      promotion.was_read(key_of(i), i % 2 == 0 ? 100 : 10000, 5000);
  ASSERT_TRUE(promotion.is_decided());
  EXPECT_TRUE(promotion.was_read(key_of(500), 100, 5000));
  EXPECT_FALSE(promotion.was_read(key_of(501), 10000, 5000));
}

TEST(Promotion, TakesEverythingWhereThereIsRoom) {
  Promotion promotion([] { return std::int64_t{1} << 40; });
  Epochs epochs = rising(500, 500);
  epochs.run(promotion);
  EXPECT_EQ(epochs.count(0, 500), 500);
}

TEST(Promotion, LowersItsPriceUntilNothingIsTooCheap) {
  Promotion promotion([] { return static_cast<std::int64_t>(kBytes * 100); });
  Epochs epochs = rising(1000, 1000);
  for (int epoch = 0; epoch < 20; ++epoch) epochs.run(promotion);
  EXPECT_GT(epochs.count(0, 1000), 900);
}

TEST(Promotion, WatchesABoundedNumberOfValues) {
  constexpr std::size_t kValues = 140000;
  Promotion promotion([] { return static_cast<std::int64_t>(kBytes * kValues / 10); });
  Epochs epochs = rising(kValues, kValues / 10);
  for (int epoch = 0; epoch < 2; ++epoch) epochs.run(promotion);
  ASSERT_TRUE(promotion.is_decided());
  EXPECT_NEAR(promotion.price() * kBytes / 1000, 0.9 * kValues, 0.03 * kValues);
}

TEST(Promotion, WaitsForReadsWhereValuesWereOnlyPut) {
  Promotion promotion([] { return std::int64_t{1000}; });
  for (int epoch = 0; epoch < 3; ++epoch)
    for (std::uint64_t i = 0; i < 100; ++i) promotion.was_put(key_of(i), kBytes);
  EXPECT_FALSE(promotion.is_decided());
}

}  // namespace
}  // namespace brim::test
