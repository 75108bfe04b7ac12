#include "brim/dataloader/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "brim/cache/error.h"
#include "brim/dataloader/random.h"

namespace brim {
namespace {

std::vector<std::int64_t> epoch_of(const Sampler& sampler, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(sampler.epoch_size()));
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = sampler.at(epoch, static_cast<std::int64_t>(i));
  }
  return order;
}

bool is_permutation_of_all(const std::vector<std::int64_t>& order) {
  std::vector<bool> seen(order.size());
  for (const std::int64_t value : order) {
    if (value < 0 || value >= static_cast<std::int64_t>(order.size())) return false;
    if (seen[static_cast<std::size_t>(value)]) return false;
    seen[static_cast<std::size_t>(value)] = true;
  }
  return true;
}

TEST(SequentialSampler, GivesPositionsThemselves) {
  const auto sampler = make_sequential_sampler(5);
  EXPECT_THAT(epoch_of(*sampler, 3), testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(ShuffleSampler, IsAPermutationAtEverySizeTo2000) {
  for (std::int64_t size = 1; size <= 2000; ++size) {
    const std::uint64_t seed = mix64(static_cast<std::uint64_t>(size));
    ASSERT_TRUE(is_permutation_of_all(epoch_of(*make_shuffle_sampler(size, seed), size % 7)))
        << "size " << size << " seed " << seed;
  }
}

TEST(ShuffleSampler, EpochsAndSeedsDiffer) {
  const auto sampler = make_shuffle_sampler(1000, 1);
  const auto first = epoch_of(*sampler, 0);
  EXPECT_NE(first, epoch_of(*sampler, 1));
  EXPECT_NE(first, epoch_of(*sampler, -1));
  EXPECT_NE(first, epoch_of(*make_shuffle_sampler(1000, 2), 0));
  EXPECT_EQ(first, epoch_of(*make_shuffle_sampler(1000, 1), 0));
}

TEST(ShuffleSampler, ReachesTheLastSampleOf2To40) {
  const std::int64_t size = std::int64_t{1} << 40;
  const Permutation permutation(size, 9);
  for (std::int64_t position : {std::int64_t{0}, size / 3, size - 1}) {
    const std::int64_t value = permutation(position);
    EXPECT_GE(value, 0);
    EXPECT_LT(value, size);
  }
  EXPECT_THROW(Permutation(size + 1, 9), Error);
  EXPECT_THROW(make_shuffle_sampler(0, 9), Error);
}

/// Pearson's chi-square of how often each sample stands at each of the first positions.
double chi_square_of_places(std::int64_t size, int epochs) {
  const auto sampler = make_shuffle_sampler(size, 77);
  std::vector<double> count(static_cast<std::size_t>(size * size));
  for (int epoch = 0; epoch < epochs; ++epoch) {
    for (std::int64_t position = 0; position < size; ++position) {
      ++count[static_cast<std::size_t>(position * size + sampler->at(epoch, position))];
    }
  }
  const double expected = static_cast<double>(epochs) / static_cast<double>(size);
  double chi = 0;
  for (const double c : count) chi += (c - expected) * (c - expected) / expected;
  return chi;
}

TEST(ShuffleSampler, PutsEverySampleEverywhereEquallyOften) {
  for (const std::int64_t size : {3, 4, 5, 7, 16, 17, 30}) {
    const double freedom = static_cast<double>((size - 1) * (size - 1));
    const double chi = chi_square_of_places(size, 4000);
    EXPECT_LT(chi, freedom + 6 * std::sqrt(2 * freedom)) << "size " << size;
  }
}

TEST(ShuffleSampler, GivesEveryOrderOfFiveSamples) {
  std::map<std::vector<std::int64_t>, int> orders;
  const auto sampler = make_shuffle_sampler(5, 5);
  for (int epoch = 0; epoch < 12000; ++epoch) ++orders[epoch_of(*sampler, epoch)];
  EXPECT_EQ(orders.size(), 120u);
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, 100, 60);
}

TEST(ShuffleSampler, NeighboursAreIndependent) {
  const std::int64_t size = 10007;
  const auto order = epoch_of(*make_shuffle_sampler(size, 3), 0);
  double correlation = 0;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    correlation += (static_cast<double>(order[i]) / size - 0.5) *
                   (static_cast<double>(order[i + 1]) / size - 0.5);
  }
  correlation *= 12.0 / static_cast<double>(size);
  EXPECT_LT(std::abs(correlation), 5 / std::sqrt(static_cast<double>(size)));
}

TEST(WeightedSampler, DrawsInProportion) {
  const std::vector<double> weights = {1, 0, 3, 0.5, 5.5};
  const auto sampler = make_weighted_sampler(weights, 100000, 4);
  std::vector<double> count(weights.size());
  for (const std::int64_t index : epoch_of(*sampler, 2)) ++count[static_cast<std::size_t>(index)];
  EXPECT_EQ(count[1], 0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double expected = weights[i] / 10.0 * 100000;
    EXPECT_NEAR(count[i], expected, 6 * std::sqrt(expected) + 1e-9);
  }
}

TEST(WeightedSampler, NeverDrawsAWeightOfZero) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Generator generator(seed, Purpose::User);
    std::vector<double> weights(1 + generator.below(200));
    for (double& w : weights) w = generator.chance(0.6) ? 0 : std::exp(generator.uniform(-30, 30));
    weights[generator.below(weights.size())] = 1;
    const auto sampler = make_weighted_sampler(weights, 2000, seed);
    for (const std::int64_t index : epoch_of(*sampler, 0)) {
      ASSERT_GT(weights[static_cast<std::size_t>(index)], 0) << "seed " << seed;
    }
  }
}

TEST(WeightedSampler, RefusesWeightsThatMeanNothing) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(make_weighted_sampler({}, 4, 0), Error);
  EXPECT_THROW(make_weighted_sampler({0, 0}, 4, 0), Error);
  EXPECT_THROW(make_weighted_sampler({1, -1}, 4, 0), Error);
  EXPECT_THROW(make_weighted_sampler({1, nan}, 4, 0), Error);
  EXPECT_THROW(make_weighted_sampler({1, 1}, 0, 0), Error);
}

}  // namespace
}  // namespace brim
