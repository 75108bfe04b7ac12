#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "support/cache_values.h"

namespace brim::test {
namespace {

/// A store whose hits take a given time.
class SlowStore final : public Store {
 public:
  explicit SlowStore(std::chrono::microseconds delay) : delay_(delay) {}
  bool get(const CacheKey&, Blob&) override {
    const auto end = std::chrono::steady_clock::now() + delay_;
    while (std::chrono::steady_clock::now() < end) continue;
    return true;
  }
  PutResult put(const CacheKey&, std::span<const std::byte>, std::int64_t) override {
    return PutResult::Stored;
  }
  bool contains(const CacheKey&) const override { return true; }
  std::int64_t release(std::int64_t) override {
    released = true;
    return 0;
  }
  StoreStats stats() const override { return {}; }
  std::string describe() const override { return "slow"; }
  bool released = false;

 private:
  std::chrono::microseconds delay_;
};

constexpr WatchOptions kQuick{.hits_per_check = 20, .least_costs = 5};

void use(Store& store, std::int64_t cost_ns, int hits) {
  for (std::uint64_t i = 0; i < 10; ++i) store.put(key_of(i), value_of(i, 8), cost_ns);
  Blob blob;
  for (int i = 0; i < hits; ++i) store.get(key_of(1), blob);
}

TEST(WatchedStore, IsGivenUpWhenHitsCostMoreThanTheirValues) {
  const auto slow = std::make_shared<SlowStore>(std::chrono::microseconds(100));
  const auto store = make_watched_store(slow, kQuick);
  use(*store, 20000, 100);
  Blob blob;
  EXPECT_FALSE(store->get(key_of(1), blob));
  EXPECT_EQ(store->put(key_of(99), value_of(1, 8), 1), PutResult::Full);
  EXPECT_FALSE(store->contains(key_of(1)));
  EXPECT_NE(store->stats().last_error.find("no longer used"), std::string::npos);
  EXPECT_TRUE(slow->released) << "its memory is of use to others";
}

TEST(WatchedStore, StaysWhileHitsPay) {
  const auto store =
      make_watched_store(std::make_shared<SlowStore>(std::chrono::microseconds(5)), kQuick);
  use(*store, 5000000, 400);
  Blob blob;
  EXPECT_TRUE(store->get(key_of(1), blob));
  EXPECT_EQ(store->stats().last_error, "");
}

TEST(WatchedStore, JudgesNothingBeforeItKnowsACost) {
  const auto store =
      make_watched_store(std::make_shared<SlowStore>(std::chrono::microseconds(50)), kQuick);
  Blob blob;
  for (int i = 0; i < 200; ++i) store->get(key_of(1), blob);
  EXPECT_TRUE(store->get(key_of(1), blob));
}

}  // namespace
}  // namespace brim::test
