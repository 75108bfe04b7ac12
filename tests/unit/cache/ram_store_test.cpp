#include <gtest/gtest.h>

#include "brim/cache/stores.h"
#include "support/allocations.h"
#include "support/cache_values.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

void fill(Store& store, std::uint64_t count, std::size_t size) {
  for (std::uint64_t i = 0; i < count; ++i) store.put(key_of(i), value_of(i, size), 1);
}

TEST(RamStore, PaysForAllItHoldsFromTheBudget) {
  const auto budget = MemoryBudget::make({.byte_limit = 8 * kMiB});
  {
    const auto store = make_ram_store({.budget = budget});
    fill(*store, 2000, 5000);  // more than fits
    EXPECT_GT(budget->reserved(), 7 * kMiB) << "what the budget leaves is used";
    EXPECT_LE(budget->reserved(), 8 * kMiB);
    EXPECT_EQ(store->stats().bytes, budget->reserved());
    EXPECT_EQ(store->put(key_of(99999), value_of(1, 300000), 1), PutResult::Full);
  }
  EXPECT_EQ(budget->reserved(), 0);
}

TEST(RamStore, GivesMemoryToOthersWhoNeedIt) {
  const auto budget = MemoryBudget::make({.byte_limit = 8 * kMiB});
  const auto store = make_ram_store({.budget = budget, .regrow_after_ms = 100000});
  fill(*store, 2000, 5000);
  const std::int64_t before = store->stats().entries;
  const Reservation slots = budget->reserve("slots", 4 * kMiB);
  EXPECT_TRUE(slots);
  EXPECT_LT(store->stats().entries, before);
  EXPECT_GT(store->stats().entries, 0) << "no more than needed is given back";
  EXPECT_EQ(store->put(key_of(50000), value_of(1, 10), 1), PutResult::Full) << "no calm yet";
  Blob blob;
  std::int64_t held = 0;
  for (std::uint64_t i = 0; i < 2000; ++i)
    if (store->get(key_of(i), blob)) {
      ++held;
      ASSERT_TRUE(same(blob.bytes, value_of(i, 5000)));
    }
  EXPECT_EQ(held, store->stats().entries);
}

TEST(RamStore, GrowsAgainAfterCalm) {
  const auto budget = MemoryBudget::make({.byte_limit = 8 * kMiB});
  const auto store = make_ram_store({.budget = budget, .regrow_after_ms = 0});
  fill(*store, 10, 5000);
  EXPECT_GT(store->release(kMiB), 0);
  EXPECT_EQ(store->stats().entries, 0);
  EXPECT_EQ(store->put(key_of(1), value_of(1, 5000), 1), PutResult::Stored);
}

TEST(RamStore, KeepsAViewAliveAfterItsChunkWasGivenBack) {
  const auto budget = MemoryBudget::make({.byte_limit = 8 * kMiB});
  auto store = make_ram_store({.budget = budget});
  fill(*store, 100, 5000);
  Blob blob;
  ASSERT_TRUE(store->get(key_of(3), blob));
  store->release(8 * kMiB);
  EXPECT_EQ(store->stats().entries, 0);
  EXPECT_TRUE(same(blob.bytes, value_of(3, 5000)));
  EXPECT_GT(budget->reserved(), 0) << "the viewed chunk is still paid for";
  store.reset();
  EXPECT_TRUE(same(blob.bytes, value_of(3, 5000)));
  blob = Blob();
  EXPECT_EQ(budget->reserved(), 0);
}

TEST(RamStore, GivesUnseenChunksBackFirst) {
  const auto budget = MemoryBudget::make({.byte_limit = 8 * kMiB});
  const auto store = make_ram_store({.budget = budget});
  fill(*store, 1000, 5000);
  Blob blob;
  ASSERT_TRUE(store->get(key_of(999), blob));
  EXPECT_GE(store->release(2 * kMiB), 2 * kMiB);
  EXPECT_TRUE(store->contains(key_of(999)));
}

TEST(RamStore, ServesAViewWithoutCopyOrAllocation) {
  const auto store = make_ram_store({.budget = MemoryBudget::make({.byte_limit = 8 * kMiB})});
  fill(*store, 100, 5000);
  Blob first;
  Blob second;
  store->get(key_of(1), first);
  store->get(key_of(1), second);
  EXPECT_EQ(first.bytes.data(), second.bytes.data());
  std::vector<CacheKey> keys;
  for (std::uint64_t i = 0; i < 100; ++i) keys.push_back(key_of(i));
  if (!counts_allocations()) GTEST_SKIP() << "allocations cannot be counted in this build";
  reset_allocations();
  for (const CacheKey& key : keys) store->get(key, first);
  EXPECT_EQ(allocations().count, 0);
}

TEST(Store, ReadsFromDiskAndLmdbWithoutAllocatingOnceWarm) {
  for (const StoreKind& kind : store_kinds()) {
    SCOPED_TRACE(kind.name);
    const TempDir folder;
    const auto store = kind.open(folder.path().string(), 16 * kMiB);
    fill(*store, 50, 5000);
    store->flush();
    std::vector<CacheKey> keys;
    for (std::uint64_t i = 0; i < 50; ++i) keys.push_back(key_of(i));
    Blob blob;
    for (int epoch = 0; epoch < 3; ++epoch)  // tiers decide in the second one
      for (const CacheKey& key : keys) ASSERT_TRUE(store->get(key, blob));
    if (!counts_allocations()) GTEST_SKIP() << "allocations cannot be counted in this build";
    reset_allocations();
    for (const CacheKey& key : keys) ASSERT_TRUE(store->get(key, blob));
    EXPECT_EQ(allocations().count, 0);
  }
}

/// Keeps values of the sizes until none fits; the share of the limit that they fill.
double filled(std::int64_t limit, const std::string& share_name,
              const std::function<std::size_t(std::uint64_t)>& size) {
  const auto store = make_ram_store({.byte_limit = limit,
                                     .budget = MemoryBudget::make({.byte_limit = 2 * limit}),
                                     .share_name = share_name});
  std::int64_t bytes = 0;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const std::vector<std::byte> value(size(i));
    if (store->put(key_of(i), value, 1) == PutResult::Stored)
      bytes += static_cast<std::int64_t>(value.size());
  }
  EXPECT_LE(store->stats().bytes, limit);
  return static_cast<double>(bytes) / static_cast<double>(limit);
}

TEST(RamStore, FillsItsLimitWithValuesOfOneSize) {
  const TempDir folder;
  for (const std::string& name : {std::string(), folder.path().string()}) {
    const auto one_size = [](std::uint64_t) { return std::size_t{92160}; };
    EXPECT_GT(filled(std::int64_t{32} << 20, name, one_size), 0.98) << name;
  }
}

TEST(RamStore, FillsItsLimitWithValuesOfManySizes) {
  const TempDir folder;
  for (const std::string& name : {std::string(), folder.path().string()}) {
    const auto many = [](std::uint64_t i) { return 5000 + i * 7919 % 40000; };
    EXPECT_GT(filled(std::int64_t{32} << 20, name, many), 0.97) << name;
  }
}

}  // namespace
}  // namespace brim::test
