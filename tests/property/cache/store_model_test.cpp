#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "support/cache_values.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

class StoreModel : public testing::TestWithParam<StoreKind> {};

std::string kind_name(const testing::TestParamInfo<StoreKind>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoreModel, testing::ValuesIn(store_kinds()), kind_name);

void expect_value(Store& store, Blob& blob, std::uint64_t i) {
  ASSERT_TRUE(store.get(key_of(i), blob)) << "value " << i << " is lost";
  ASSERT_TRUE(same(blob.bytes, value_of(i, size_of(i)))) << "value " << i << " is wrong";
}

TEST_P(StoreModel, AgreesWithAMapOverRandomOperations) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    TempDir folder;
    std::mt19937_64 generator(seed);
    std::shared_ptr<Store> store = GetParam().open(folder.path().string(), std::int64_t{48} << 20);
    std::map<std::uint64_t, bool> model;
    Blob blob;
    for (int step = 0; step < 3000; ++step) {
      const std::uint64_t i = generator() % 600;
      switch (generator() % 100) {
        case 0:
          store->flush();
          break;
        case 1:
          if (!GetParam().lasting) break;
          store.reset();
          store = GetParam().open(folder.path().string(), std::int64_t{48} << 20);
          break;
        case 2: {
          std::vector<CacheKey> keys;
          for (int k = 0; k < 20; ++k) keys.push_back(key_of(generator() % 600));
          store->will_need(keys);
          break;
        }
        default:
          if (generator() % 2 == 0) {
            const PutResult result = store->put(key_of(i), value_of(i, size_of(i)), 1);
            ASSERT_EQ(result, model[i] ? PutResult::AlreadyThere : PutResult::Stored) << step;
            model[i] = true;
          } else if (model[i]) {
            ASSERT_TRUE(store->contains(key_of(i)));
            expect_value(*store, blob, i);
          } else {
            ASSERT_FALSE(store->contains(key_of(i)));
            ASSERT_FALSE(store->get(key_of(i), blob));
          }
      }
      if (testing::Test::HasFatalFailure()) return;
    }
    std::int64_t held = 0;
    for (const auto& [i, there] : model) held += there ? 1 : 0;
    EXPECT_EQ(store->stats().entries, held);
    EXPECT_EQ(store->stats().damaged, 0);
    EXPECT_EQ(store->stats().last_error, "");
  }
}

TEST_P(StoreModel, StaysUnderItsCapAndKeepsWhatItTook) {
  TempDir folder;
  const std::int64_t cap = std::int64_t{2} << 20;
  std::shared_ptr<Store> store = GetParam().open(folder.path().string(), cap);
  std::vector<std::uint64_t> taken;
  for (std::uint64_t i = 0; i < 2000; ++i)
    if (store->put(key_of(i), value_of(i, 8000), 1) == PutResult::Stored) taken.push_back(i);
  store->flush();
  const StoreStats stats = store->stats();
  EXPECT_LE(stats.bytes, cap + (GetParam().name.starts_with("tiered") ? std::int64_t{1} << 19 : 0));
  EXPECT_GT(stats.rejected, 0);
  EXPECT_GT(static_cast<std::int64_t>(taken.size()) * 8000, cap * 8 / 10) << "cap is not used";
  Blob blob;
  for (const std::uint64_t i : taken) {
    ASSERT_TRUE(store->get(key_of(i), blob)) << i;
    ASSERT_TRUE(same(blob.bytes, value_of(i, 8000)));
  }
}

TEST_P(StoreModel, ServesManyThreadsAtOnce) {
  TempDir folder;
  std::shared_ptr<Store> store = GetParam().open(folder.path().string(), std::int64_t{48} << 20);
  std::atomic<int> wrong{0};
  std::atomic<int> stored{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      std::mt19937_64 generator(static_cast<std::uint64_t>(t));
      Blob blob;
      for (int step = 0; step < 1500; ++step) {
        const std::uint64_t i = generator() % 400;
        if (store->get(key_of(i), blob)) {
          if (!same(blob.bytes, value_of(i, size_of(i)))) ++wrong;
        } else if (store->put(key_of(i), value_of(i, size_of(i)), 1) == PutResult::Stored) {
          ++stored;
        }
        if (step % 500 == 0) store->flush();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(stored, store->stats().entries) << "a value was stored twice or lost";
}

}  // namespace
}  // namespace brim::test
