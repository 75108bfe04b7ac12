#include "brim/dataloader/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "brim/cache/error.h"
#include "support/fake_data.h"
#include "support/test_data.h"

namespace brim {
namespace {

using test::MemoryDataset;
using test::MixTransform;

std::shared_ptr<MemoryDataset> memory(std::int64_t size, std::set<std::int64_t> bad = {}) {
  return std::make_shared<MemoryDataset>(
      MemoryDataset::Settings{.size = size, .bad = std::move(bad)});
}

std::shared_ptr<MixTransform> mix(MixTransform::Settings settings = {}) {
  return std::make_shared<MixTransform>(std::move(settings));
}

std::vector<std::uint64_t> digests(Loader& loader, std::int64_t epoch, std::int64_t first = 0) {
  std::vector<std::uint64_t> result;
  loader.start(epoch, first);
  while (const std::optional<Batch> batch = loader.next()) result.push_back(batch->digest());
  return result;
}

TEST(Loader, YieldsEverySampleOfAnEpochOnce) {
  for (const int workers : {0, 2}) {
    Loader loader(memory(37), mix(), {.batch_size = 5, .workers = workers});
    EXPECT_EQ(loader.batches_per_epoch(), 8);
    EXPECT_EQ(loader.samples_per_epoch(), 37);
    std::vector<std::int64_t> seen;
    loader.start(3);
    std::int64_t number = 0;
    while (const auto batch = loader.next()) {
      EXPECT_EQ(batch->number(), number++);
      for (const SampleInfo& sample : batch->samples()) seen.push_back(sample.index);
    }
    std::sort(seen.begin(), seen.end());
    std::vector<std::int64_t> all(37);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, all);
    EXPECT_FALSE(loader.next());
  }
}

TEST(Loader, IsPlannedForWhatTheMachineHasNow) {
  const test::TempDir machine;
  const auto leave = [&](const char* kilobytes) {
    test::write_file(machine.file("proc/meminfo"),
                     std::string("MemAvailable: ") + kilobytes + " kB\n");
  };
  leave("64");
  const auto budget = MemoryBudget::make({.base_bytes = 0, .root = machine.path().string()});
  const auto plan = [&] { return make_plan({.batch_size = 5}, *memory(37), *mix(), *budget); };
  EXPECT_THROW(plan(), Error);
  leave("4000000");
  EXPECT_GT(plan().slots, 1) << "what others gave back counts at once";
  leave("64");
  EXPECT_THROW(plan(), Error);
}

TEST(Loader, DropsTheIncompleteBatchWhereAsked) {
  Loader loader(memory(37), mix(), {.batch_size = 5, .workers = 2, .last_batch = LastBatch::Drop});
  EXPECT_EQ(digests(loader, 0).size(), 7u);
  EXPECT_EQ(loader.samples_per_epoch(), 35);
}

TEST(Loader, GivesTheSameBatchesForAnyNumberOfWorkers) {
  Loader reference(memory(50), mix(), {.batch_size = 4, .workers = 0, .seed = 9});
  const auto expected = digests(reference, 2);
  for (const int workers : {1, 2, 3, 8}) {
    Loader loader(memory(50), mix(), {.batch_size = 4, .workers = workers, .seed = 9});
    EXPECT_EQ(digests(loader, 2), expected) << workers << " workers";
  }
}

TEST(Loader, ResumesAtAnyBatch) {
  Loader loader(memory(50), mix(), {.batch_size = 4, .workers = 2});
  const auto whole = digests(loader, 1);
  for (std::size_t first = 0; first <= whole.size(); first += 3) {
    const std::vector<std::uint64_t> rest(whole.begin() + static_cast<std::ptrdiff_t>(first),
                                          whole.end());
    EXPECT_EQ(digests(loader, 1, static_cast<std::int64_t>(first)), rest) << "from " << first;
  }
}

TEST(Loader, AnEpochIsTheSameAfterAnyOther) {
  Loader loader(memory(30), mix(), {.batch_size = 4, .workers = 2});
  const auto zero = digests(loader, 0);
  const auto one = digests(loader, 1);  // foreseen: made while epoch 0 was read
  EXPECT_NE(zero, one);
  EXPECT_EQ(digests(loader, 0), zero);
  EXPECT_EQ(digests(loader, 1), one);
  Loader fresh(memory(30), mix(), {.batch_size = 4, .workers = 2});
  EXPECT_EQ(digests(fresh, 1), one);
}

TEST(Loader, BegunTwiceKeepsWhatIsMade) {
  std::atomic<int> made = 0;
  Loader loader(memory(40), mix({.on_apply = [&](const Recipe&) { ++made; }}),
                {.batch_size = 4, .workers = 2, .prefetch_batches = 2});
  const auto expected = digests(loader, 5);
  loader.stop();
  const auto made_when_calm = [&] {
    int before = -1;
    while (before != made) {
      before = made;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return before;
  };
  loader.start(5);
  const int ahead = made_when_calm();
  loader.start(5);
  EXPECT_EQ(made_when_calm(), ahead);
  EXPECT_EQ(digests(loader, 5), expected);
  EXPECT_EQ(loader.statistics().samples, 40);
}

TEST(Loader, RanksShareTheGlobalBatch) {
  Loader whole(memory(61), mix(), {.batch_size = 8, .workers = 0});
  std::vector<std::uint64_t> expected;
  whole.start(4);
  while (const auto batch = whole.next()) {
    for (std::int64_t i = 0; i < batch->size(); ++i) expected.push_back(batch->sample_digest(i));
  }
  for (const int ranks : {2, 4, 8}) {
    std::vector<std::uint64_t> merged(expected.size() + 8, 0);
    std::int64_t batches = -1;
    for (int rank = 0; rank < ranks; ++rank) {
      Loader loader(memory(61), mix(),
                    {.batch_size = 8 / ranks, .workers = 2, .rank = rank, .ranks = ranks});
      EXPECT_TRUE(batches < 0 || loader.batches_per_epoch() == batches);
      batches = loader.batches_per_epoch();
      loader.start(4);
      std::size_t position = static_cast<std::size_t>(rank);
      while (const auto batch = loader.next()) {
        for (std::int64_t i = 0; i < batch->size();
             ++i, position += static_cast<std::size_t>(ranks)) {
          merged.at(position) = batch->sample_digest(i);
        }
      }
      EXPECT_GE(position, expected.size());
    }
    merged.resize(expected.size());
    EXPECT_EQ(merged, expected) << ranks << " ranks";
  }
}

TEST(Loader, UniformPartnersGiveTheSameForAnyNumberOfWorkers) {
  Loader reference(memory(40), mix(), {.workers = 0, .partners = Partners::Uniform});
  Loader loader(memory(40), mix(), {.workers = 3, .partners = Partners::Uniform});
  EXPECT_EQ(digests(reference, 0), digests(loader, 0));
}

TEST(Loader, BatchesKeepTheirContentWhileTheyAreHeld) {
  std::vector<Batch> held;
  std::vector<std::uint64_t> first;
  {
    Loader loader(memory(60), mix(), {.batch_size = 4, .workers = 2, .prefetch_batches = 1});
    loader.start(0);
    while (auto batch = loader.next()) {
      first.push_back(batch->digest());
      held.push_back(std::move(*batch));
    }
    EXPECT_EQ(held.size(), 15u);
  }
  for (std::size_t i = 0; i < held.size(); ++i) EXPECT_EQ(held[i].digest(), first[i]);
}

TEST(Loader, PixelsStartAtAPage) {
  Loader loader(memory(20), mix(), {.batch_size = 4, .workers = 1});
  loader.start(0);
  while (const auto batch = loader.next()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(batch->pixels().data()) % 4096, 0u);
  }
}

TEST(Loader, ReplacesBadSamplesAndListsThemOnce) {
  test::TempDir folder;
  const std::string file = folder.file("quarantine.tsv");
  const std::set<std::int64_t> bad = {3, 17, 40};
  std::vector<std::uint64_t> expected;
  for (const int workers : {0, 2}) {
    Loader loader(
        memory(200, bad), mix(),
        {.batch_size = 8, .workers = workers, .max_bad_fraction = 0.05, .quarantine_file = file});
    std::vector<std::uint64_t> result;
    std::int64_t replaced = 0;
    for (int epoch = 0; epoch < 2; ++epoch) {
      loader.start(epoch);
      while (const auto batch = loader.next()) {
        result.push_back(batch->digest());
        for (const SampleInfo& sample : batch->samples()) {
          replaced += sample.replaced;
          EXPECT_FALSE(bad.contains(sample.index));
        }
      }
    }
    EXPECT_EQ(replaced, 6);
    ASSERT_EQ(loader.quarantine().size(), 3u);
    EXPECT_EQ(loader.quarantine()[0].reason, "raw pixels end early");
    if (expected.empty()) expected = result;
    EXPECT_EQ(result, expected);
  }
  const std::string text = test::read_file(file);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_THAT(text, testing::StartsWith("index\tpath\treason\treplacement\n"));
  EXPECT_THAT(text, testing::HasSubstr("17\tmemory/17\traw pixels end early\t"));
}

TEST(Loader, StopsWhenTooManySamplesAreBad) {
  std::set<std::int64_t> bad;
  for (std::int64_t i = 0; i < 200; i += 10) bad.insert(i);
  Loader loader(memory(200, bad), mix(), {.batch_size = 8, .workers = 2});
  loader.start(0);
  try {
    while (loader.next()) {
    }
    FAIL() << "10% bad samples went unnoticed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("max_bad_fraction"));
    EXPECT_THAT(error.what(), testing::HasSubstr("raw pixels end early"));
    EXPECT_FALSE(error.hint().empty());
  }
  EXPECT_FALSE(loader.next());
}

TEST(Loader, SaysSoWhenNothingCanBeRead) {
  Loader loader(memory(3, {0, 1, 2}), mix(), {.workers = 2, .max_bad_fraction = 1});
  loader.start(0);
  EXPECT_THROW(loader.next(), Error);
}

TEST(Loader, CarriesAnExceptionToTheConsumerAndStartsAgain) {
  for (const int workers : {0, 2}) {
    auto count = std::make_shared<std::atomic<int>>(0);
    Loader loader(memory(60),
                  mix({.on_apply =
                           [count](const Recipe&) {
                             if (count->fetch_add(1) == 30)
                               throw std::runtime_error("from a transform");
                           }}),
                  {.batch_size = 4, .workers = workers});
    loader.start(0);
    EXPECT_THROW(while (loader.next()){}, std::runtime_error);
    EXPECT_FALSE(loader.next());
    EXPECT_EQ(digests(loader, 0).size(), 15u);
  }
}

TEST(Loader, StopFromAnotherThreadEndsAWaitingNext) {
  Loader loader(
      memory(60),
      mix({.on_apply =
               [](const Recipe&) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }}),
      {.batch_size = 60, .workers = 2});
  loader.start(0);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    loader.stop();
  });
  EXPECT_FALSE(loader.next());
  other.join();
}

TEST(Loader, RefusesSettingsThatCannotWork) {
  const auto loads = [](LoaderOptions options, std::int64_t size = 10) {
    Loader loader(memory(size), mix(), options);
  };
  EXPECT_THROW(loads({.batch_size = 0}), Error);
  EXPECT_THROW(loads({.workers = -3}), Error);
  EXPECT_THROW(loads({.prefetch_batches = 0}), Error);
  EXPECT_THROW(loads({.rank = 2, .ranks = 2}), Error);
  EXPECT_THROW(loads({.ranks = 3}), Error);
  EXPECT_THROW(loads({.window = 0}), Error);
  EXPECT_THROW(loads({.max_bad_fraction = 2}), Error);
  EXPECT_THROW(loads({.batch_size = 16, .last_batch = LastBatch::Drop}), Error);
  EXPECT_THROW(loads({}, 0), Error);
  Loader loader(memory(10), mix(), {});
  EXPECT_THROW(loader.start(0, 2), Error);
}

TEST(Loader, RefusesABudgetThatIsTooSmallAndNamesTheSmallest) {
  const auto transform = mix({.width = 640, .height = 640});
  const auto attempt = [&](std::int64_t bytes) {
    Loader loader(
        memory(10), transform,
        {.batch_size = 64, .workers = 1, .budget = MemoryBudget::make({.byte_limit = bytes})});
    return loader.plan();
  };
  EXPECT_EQ(attempt(std::int64_t{4} << 30).prefetch_batches, 4);
  EXPECT_EQ(attempt(std::int64_t{300} << 20).prefetch_batches, 2);
  try {
    attempt(std::int64_t{100} << 20);
    FAIL() << "64 samples of 640x640 need 150 MiB";
  } catch (const Error& error) {
    const std::string hint = error.hint();
    EXPECT_THAT(hint, testing::HasSubstr("the smallest budget that works is "));
    const std::size_t begin = hint.find(" is ") + 4;
    const std::string smallest = hint.substr(begin, hint.find(';') - begin);
    EXPECT_EQ(attempt(parse_bytes(smallest) + (1 << 18)).prefetch_batches, 1);
  }
}

/// Counts what it gives out.
class CountedMemory final : public std::pmr::memory_resource {
 public:
  int given = 0, held = 0;
  std::size_t bytes = 0;

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    ++given;
    ++held;
    bytes = size;
    return std::pmr::new_delete_resource()->allocate(size, alignment);
  }
  void do_deallocate(void* data, std::size_t size, std::size_t alignment) override {
    --held;
    std::pmr::new_delete_resource()->deallocate(data, size, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

TEST(Loader, TakesEverySlotOnceFromTheMemoryItIsGiven) {
  const auto memory = std::make_shared<CountedMemory>();
  Batch kept;
  {
    Loader loader(std::make_shared<test::MemoryDataset>(test::MemoryDataset::Settings{.size = 40}),
                  std::make_shared<test::MixTransform>(test::MixTransform::Settings{}),
                  {.batch_size = 4, .workers = 2, .prefetch_batches = 2, .slot_memory = memory});
    for (int epoch = 0; epoch < 3; ++epoch) {
      loader.start(epoch);
      while (auto batch = loader.next()) kept = std::move(*batch);
    }
    EXPECT_EQ(memory->given, loader.plan().slots);
    EXPECT_EQ(memory->bytes, std::size_t{4} * 7 * 5 * 3);
  }
  EXPECT_EQ(memory->held, memory->given) << "a batch is still held";
  kept = Batch();
  EXPECT_EQ(memory->held, 0);
}

}  // namespace
}  // namespace brim
