// Law 1 as a property: batches depend on (seed, epoch, sampler settings) alone.
#include <gtest/gtest.h>

#include <cstdlib>

#include "brim/cache/error.h"
#include "brim/cache/stores.h"
#include "brim/dataloader/loader.h"
#include "support/fake_data.h"
#include "support/test_data.h"

namespace brim {
namespace {

using test::MemoryDataset;
using test::MixTransform;

struct Case {
  std::uint64_t seed;
  std::shared_ptr<MemoryDataset> dataset;
  std::shared_ptr<MixTransform> transform;
  LoaderOptions options;
  std::int64_t epoch;
};

Case random_case(std::uint64_t seed) {
  Generator g(seed, Purpose::User);
  MemoryDataset::Settings data{.size = 1 + static_cast<std::int64_t>(g.below(120)),
                               .boxes = static_cast<int>(g.below(4))};
  if (g.chance(0.3)) data.task = Task::Classify;
  if (g.chance(0.3) && data.size > 8) {
    for (int i = 0; i < 3; ++i) {
      data.bad.insert(static_cast<std::int64_t>(g.below(static_cast<std::uint64_t>(data.size))));
    }
  }
  MixTransform::Settings mix{.partners = static_cast<int>(g.below(5)),
                             .partner_probability = g.uniform()};
  Case c{seed, std::make_shared<MemoryDataset>(data), std::make_shared<MixTransform>(mix), {}, 0};
  LoaderOptions& o = c.options;
  o.batch_size = 1 + static_cast<std::int64_t>(g.below(20));
  o.seed = g.next();
  o.order = g.chance(0.3) ? Order::Sequential : Order::Shuffled;
  o.partners = g.chance(0.3) ? Partners::Uniform : Partners::Window;
  o.window = 1 + static_cast<int>(g.below(20));
  o.lanes = 1 << g.below(5);
  o.max_bad_fraction = 1;
  o.prefetch_batches = 1 + static_cast<int>(g.below(4));
  if (o.batch_size < data.size && g.chance(0.3)) o.last_batch = LastBatch::Drop;
  if (g.chance(0.2)) {
    std::vector<double> weights(static_cast<std::size_t>(data.size));
    for (double& w : weights) w = 0.1 + g.uniform();
    const auto draws = o.batch_size + static_cast<std::int64_t>(g.below(90));
    o.sampler = make_weighted_sampler(weights, draws, o.seed);
  }
  if (o.last_batch == LastBatch::Keep && g.chance(0.3)) {
    const std::int64_t size = o.sampler ? o.sampler->epoch_size() : data.size;
    o.epoch_batches = (size + o.batch_size - 1) / o.batch_size +
                      static_cast<std::int64_t>(g.below(3));  // as another machine's data makes
  }
  c.epoch = static_cast<std::int64_t>(g.below(5)) - 1;
  return c;
}

std::vector<std::uint64_t> digests(Loader& loader, std::int64_t epoch, std::int64_t first = 0) {
  std::vector<std::uint64_t> result;
  loader.start(epoch, first);
  while (const std::optional<Batch> batch = loader.next()) result.push_back(batch->digest());
  return result;
}

std::vector<std::uint64_t> expected_of(const Case& c) {
  LoaderOptions options = c.options;
  options.workers = 0;
  Loader loader(c.dataset, c.transform, options);
  return digests(loader, c.epoch);
}

/// Cases to try: BRIM_PROPERTY_CASES multiplies them for long campaigns.
std::uint64_t cases(std::uint64_t usual) {
  const char* times = std::getenv("BRIM_PROPERTY_CASES");
  return times == nullptr ? usual : usual * std::strtoull(times, nullptr, 10);
}

TEST(LawOfOneResult, WorkersDoNotChangeBatches) {
  for (std::uint64_t seed = 0; seed < cases(60); ++seed) {
    const Case c = random_case(seed);
    const auto expected = expected_of(c);
    for (const int workers : {1, 2, 3, 8}) {
      LoaderOptions options = c.options;
      options.workers = workers;
      Loader loader(c.dataset, c.transform, options);
      ASSERT_EQ(digests(loader, c.epoch), expected) << "seed " << seed << " workers " << workers;
    }
  }
}

TEST(LawOfOneResult, AnyStartAndAnyHistoryGiveTheSameRest) {
  for (std::uint64_t seed = 100; seed < 100 + cases(60); ++seed) {
    Case c = random_case(seed);
    const auto expected = expected_of(c);
    Generator g(seed, Purpose::Order);
    c.options.workers = static_cast<int>(g.below(4));
    Loader loader(c.dataset, c.transform, c.options);
    for (int i = 0; i < 6; ++i) {
      const auto first = static_cast<std::int64_t>(g.below(expected.size() + 1));
      const std::vector<std::uint64_t> rest(expected.begin() + first, expected.end());
      ASSERT_EQ(digests(loader, c.epoch, first), rest) << "seed " << seed << " from " << first;
      if (g.chance(0.5)) {  // something else in between, left in the middle
        loader.start(c.epoch + static_cast<std::int64_t>(g.below(3)) - 1, 0);
        for (std::uint64_t n = g.below(3); n > 0; --n) loader.next();
      }
    }
  }
}

TEST(LawOfOneResult, EpochsInARowEqualEpochsAlone) {
  for (std::uint64_t seed = 200; seed < 200 + cases(30); ++seed) {
    Case c = random_case(seed);
    LoaderOptions options = c.options;
    options.workers = 2;
    Loader row(c.dataset, c.transform, options);
    const std::int64_t step = seed % 3 == 0 ? 2 : 1;
    for (int i = 0; i < 4; ++i, c.epoch += step) {
      ASSERT_EQ(digests(row, c.epoch), expected_of(c)) << "seed " << seed << " epoch " << c.epoch;
    }
  }
}

TEST(LawOfOneResult, RanksMakeUpTheSameEpoch) {
  for (std::uint64_t seed = 300; seed < 300 + cases(40); ++seed) {
    Case c = random_case(seed);
    Generator g(seed, Purpose::Order);
    const int ranks = 1 << g.below(4);
    c.options.lanes = 8 * (1 + static_cast<int>(g.below(2)));
    const std::int64_t batch = c.options.batch_size;
    c.options.epoch_batches = 0;
    if (c.options.last_batch == LastBatch::Drop && batch * ranks > c.dataset->size()) continue;
    c.options.workers = 0;
    c.options.batch_size = batch * ranks;
    std::vector<std::uint64_t> expected;
    Loader whole(c.dataset, c.transform, c.options);
    whole.start(c.epoch);
    while (const auto b = whole.next()) {
      for (std::int64_t i = 0; i < b->size(); ++i) expected.push_back(b->sample_digest(i));
    }
    c.options.batch_size = batch;
    c.options.ranks = ranks;
    c.options.workers = 2;
    std::vector<std::uint64_t> merged(expected.size() + static_cast<std::size_t>(ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      c.options.rank = rank;
      Loader loader(c.dataset, c.transform, c.options);
      ASSERT_EQ(loader.batches_per_epoch(), whole.batches_per_epoch()) << "seed " << seed;
      std::size_t position = static_cast<std::size_t>(rank);
      loader.start(c.epoch);
      while (const auto b = loader.next()) {
        for (std::int64_t i = 0; i < b->size(); ++i, position += static_cast<std::size_t>(ranks)) {
          merged.at(position) = b->sample_digest(i);
        }
      }
      ASSERT_GE(position, expected.size()) << "seed " << seed;
    }
    merged.resize(expected.size());
    ASSERT_EQ(merged, expected) << "seed " << seed << " ranks " << ranks;
  }
}

TEST(LawOfOneResult, MachinesWithDataOfTheirOwnShowEverySampleOnce) {
  for (std::uint64_t seed = 400; seed < 400 + cases(40); ++seed) {
    Case c = random_case(seed);
    Generator g(seed, Purpose::Order);
    c.options.sampler = nullptr;
    c.options.last_batch = LastBatch::Keep;
    c.options.lanes = 8;
    c.options.workers = 2;
    const auto machines = 1 + static_cast<int>(g.below(3));
    std::vector<std::shared_ptr<MemoryDataset>> data;
    std::vector<int> ranks;
    std::int64_t batches = 0;
    for (int m = 0; m < machines; ++m) {
      const std::int64_t size = 1 + static_cast<std::int64_t>(g.below(60));
      data.push_back(std::make_shared<MemoryDataset>(MemoryDataset::Settings{.size = size}));
      ranks.push_back(1 << g.below(3));
      const std::int64_t global = c.options.batch_size * ranks.back();
      batches = std::max(batches, (size + global - 1) / global);
    }
    c.options.epoch_batches = batches;
    for (std::size_t m = 0; m < data.size(); ++m) {
      std::vector<int> shown(static_cast<std::size_t>(data[m]->size()));
      for (int rank = 0; rank < ranks[m]; ++rank) {
        c.options.rank = rank;
        c.options.ranks = ranks[m];
        Loader loader(data[m], c.transform, c.options);
        ASSERT_EQ(loader.batches_per_epoch(), batches);
        loader.start(c.epoch);
        while (const auto b = loader.next()) {
          ASSERT_EQ(b->size(), c.options.batch_size) << "all ranks have as many samples";
          bool padding = false;
          for (const SampleInfo& sample : b->samples()) {
            ASSERT_TRUE(sample.padding || !padding) << "padding stands at the end";
            padding = sample.padding;
            if (!padding) ++shown.at(static_cast<std::size_t>(sample.index));
          }
        }
      }
      ASSERT_EQ(shown, std::vector<int>(shown.size(), 1)) << "seed " << seed << " machine " << m;
    }
  }
}

TEST(LawOfOneResult, AnEpochOfTooFewBatchesIsRefused) {
  Case c = random_case(1);
  c.options.sampler = nullptr;
  c.options.last_batch = LastBatch::Keep;
  c.options.batch_size = 1;
  c.options.epoch_batches = c.dataset->size() - 1;
  EXPECT_THROW(Loader(c.dataset, c.transform, c.options), Error);
}

}  // namespace
}  // namespace brim
