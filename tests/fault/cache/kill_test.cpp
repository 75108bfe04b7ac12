#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <set>
#include <thread>

#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

/// Kills per kind of store; BRIM_TEST_KILLS raises it for a long campaign.
constexpr int kKills = 40;
constexpr int kWriters = 2;
constexpr std::uint64_t kValues = 10000;
constexpr std::int64_t kCap = std::int64_t{256} << 20;

int kills() {
  const char* text = std::getenv("BRIM_TEST_KILLS");
  return text != nullptr ? std::atoi(text) : kKills;
}

class Killed : public testing::TestWithParam<StoreKind> {};

std::vector<StoreKind> lasting_kinds() {
  std::vector<StoreKind> kinds;
  for (const StoreKind& kind : store_kinds())
    if (kind.lasting && !kind.name.starts_with("tiered")) kinds.push_back(kind);
  return kinds;
}

INSTANTIATE_TEST_SUITE_P(Kinds, Killed, testing::ValuesIn(lasting_kinds()),
                         [](const auto& kind) { return kind.param.name; });

/// Reads and puts in its own random order until it is killed.
int build(const StoreKind& kind, const std::string& folder, std::uint64_t seed) {
  const std::shared_ptr<Store> store = kind.open(folder, kCap);
  std::mt19937_64 generator(seed);
  Blob blob;
  while (true) {
    const std::uint64_t i = generator() % kValues;
    if (store->get(key_of(i), blob)) {
      if (!same(blob.bytes, value_of(i, size_of(i)))) return 1;
    } else {
      store->put(key_of(i), value_of(i, size_of(i)), 1);
    }
    if (generator() % 200 == 0) store->flush();
  }
}

/// Every entry verifies, and what was there before is there still.
void verify(const StoreKind& kind, const std::string& folder, std::set<std::uint64_t>& held) {
  const auto start = std::chrono::steady_clock::now();
  const std::shared_ptr<Store> store = kind.open(folder, kCap);
  Blob blob;
  std::set<std::uint64_t> now;
  for (std::uint64_t i = 0; i < kValues; ++i) {
    if (!store->get(key_of(i), blob)) continue;
    ASSERT_TRUE(same(blob.bytes, value_of(i, size_of(i)))) << "wrong bytes of value " << i;
    now.insert(i);
  }
  EXPECT_EQ(store->stats().damaged, 0);
  EXPECT_EQ(store->stats().last_error, "");
  EXPECT_EQ(store->stats().entries, static_cast<std::int64_t>(now.size()));
  for (const std::uint64_t i : held) ASSERT_TRUE(now.contains(i)) << "value " << i << " was lost";
  held = now;
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took, std::chrono::seconds(10)) << "a lock of a dead process holds things up";
}

TEST_P(Killed, WhileTwoProcessesBuildLosesAndTearsNothing) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 generator(seed);
  const TempDir folder;
  std::set<std::uint64_t> held;
  const int rounds = (kills() + kWriters - 1) / kWriters;
  for (int round = 0; round < rounds; ++round) {
    std::vector<pid_t> children;
    for (int writer = 0; writer < kWriters; ++writer)
      children.push_back(start_child([&, child_seed = generator()] {
        return build(GetParam(), folder.path().string(), child_seed);
      }));
    for (const pid_t child : children) {
      std::this_thread::sleep_for(std::chrono::microseconds(1000 + generator() % 60000));
      ::kill(child, SIGKILL);
    }
    for (const pid_t child : children) ASSERT_EQ(wait_child(child), "signal 9");
    verify(GetParam(), folder.path().string(), held);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(held.size(), 0U) << "the build made no progress";
  std::printf("%d kills, %zu of %d values held\n", rounds * kWriters, held.size(),
              static_cast<int>(kValues));

  const std::shared_ptr<Store> store = GetParam().open(folder.path().string(), kCap);
  for (std::uint64_t i = 0; i < kValues; ++i) {
    const PutResult expected = held.contains(i) ? PutResult::AlreadyThere : PutResult::Stored;
    ASSERT_EQ(store->put(key_of(i), value_of(i, size_of(i)), 1), expected);
  }
  EXPECT_EQ(store->stats().entries, static_cast<std::int64_t>(kValues));
}

TEST(KilledDisk, WhileMakingASegmentLeavesNoOrphan) {
  const TempDir folder;
  write_file(folder.file("new-segment-0123456789abcdef.brim"), "half made");
  const auto store = make_disk_store({.directory = folder.path().string(), .byte_limit = 1 << 20});
  EXPECT_FALSE(std::filesystem::exists(folder.file("new-segment-0123456789abcdef.brim")));
}

TEST(LmdbStore, SeesGrowthByAnotherProcess) {
  const TempDir folder;
  const LmdbStoreOptions options{
      .directory = folder.path().string(), .byte_limit = 64 << 20, .map_bytes = 1 << 18};
  const auto store = make_lmdb_store(options);
  store->put(key_of(0), value_of(0, 100), 1);
  store->flush();
  constexpr std::uint64_t kMany = 400;
  EXPECT_EQ(in_child([&] {
              const auto other = make_lmdb_store(options);
              for (std::uint64_t i = 1; i < kMany; ++i)
                if (other->put(key_of(i), value_of(i, 20000), 1) != PutResult::Stored) return 1;
              other->flush();
              return other->stats().last_error.empty() ? 0 : 2;
            }),
            "exit 0");
  Blob blob;
  for (std::uint64_t i = 1; i < kMany; ++i) {
    ASSERT_TRUE(store->get(key_of(i), blob)) << i;
    ASSERT_TRUE(same(blob.bytes, value_of(i, 20000)));
  }
  EXPECT_EQ(store->put(key_of(kMany), value_of(kMany, 100), 1), PutResult::Stored);
  store->flush();
  EXPECT_EQ(store->stats().entries, static_cast<std::int64_t>(kMany) + 1);
}

TEST(LmdbStore, IsOutOfBoundsForAForkedChild) {
  const TempDir folder;
  const auto store = make_lmdb_store({.directory = folder.path().string(), .byte_limit = 8 << 20});
  store->put(key_of(1), value_of(1, 100), 1);
  store->flush();
  EXPECT_EQ(in_child([&] {
              Blob blob;
              if (store->get(key_of(1), blob) || store->contains(key_of(1))) return 1;
              return store->put(key_of(2), value_of(2, 100), 1) == PutResult::Failed ? 0 : 2;
            }),
            "exit 0");
  Blob blob;
  EXPECT_TRUE(store->get(key_of(1), blob));
}

}  // namespace
}  // namespace brim::test
