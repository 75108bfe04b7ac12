#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <thread>

#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

/// Kills per campaign; BRIM_TEST_KILLS raises it, BRIM_TEST_SEED repeats one.
constexpr int kKills = 40;
constexpr int kWriters = 2;
constexpr std::uint64_t kValues = 10000;
constexpr std::int64_t kCap = std::int64_t{256} << 20;

/// What the writers of a campaign may open, and what outlives them.
struct Campaign {
  std::string name;
  std::vector<std::string> written, verified;
};
std::ostream& operator<<(std::ostream& out, const Campaign& campaign) {
  return out << campaign.name;
}

StoreKind kind_named(const std::string& name) {
  for (const StoreKind& kind : store_kinds())
    if (kind.name == name) return kind;
  throw std::logic_error("no kind of store '" + name + "'");
}

class Killed : public testing::TestWithParam<Campaign> {
 protected:
  /// Made once: children have them from their parent.
  static void SetUpTestSuite() {
    for (std::uint64_t i = 0; i < kValues; ++i) {
      keys_.push_back(key_of(i));
      values_.push_back(value_of(i, size_of(i)));
    }
  }
  static void TearDownTestSuite() {
    keys_.clear();
    values_.clear();
  }

  /// Reads and puts in its own random order until it is killed.
  int build(const StoreKind& kind, std::uint64_t seed) const {
    const std::shared_ptr<Store> store = kind.open(folder_.path().string(), kCap);
    std::mt19937_64 generator(seed);
    Blob blob;
    while (true) {
      const std::uint64_t i = generator() % kValues;
      if (store->get(keys_[i], blob)) {
        if (!same(blob.bytes, values_[i])) return 1;
      } else {
        store->put(keys_[i], values_[i], 1);
      }
      if (generator() % 200 == 0) store->flush();
    }
  }

  /// Every entry verifies, and what was there before is there still, without a dead one's lock.
  void verify(const std::string& name) {
    const auto start = std::chrono::steady_clock::now();
    look(name);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10))
        << "a lock of a dead process holds things up";
  }

  void look(const std::string& name) {
    SCOPED_TRACE(name);
    const std::shared_ptr<Store> store = kind_named(name).open(folder_.path().string(), kCap);
    Blob blob;
    std::vector<bool> now(kValues);
    for (std::uint64_t i = 0; i < kValues; ++i) {
      if (!store->get(keys_[i], blob)) continue;
      ASSERT_TRUE(same(blob.bytes, values_[i])) << "wrong bytes of value " << i;
      now[i] = true;
    }
    const StoreStats stats = store->stats();
    EXPECT_EQ(stats.damaged, 0);
    EXPECT_EQ(stats.last_error, "");
    EXPECT_EQ(stats.entries, std::count(now.begin(), now.end(), true));
    std::vector<bool>& held = held_.try_emplace(name, kValues, false).first->second;
    for (std::uint64_t i = 0; i < kValues; ++i)
      ASSERT_TRUE(now[i] || !held[i]) << "value " << i << " was lost";
    held = now;
  }

  /// The build is completed: what was kept is kept, the rest is added.
  void complete(const std::string& name) {
    SCOPED_TRACE(name);
    const std::shared_ptr<Store> store = kind_named(name).open(folder_.path().string(), kCap);
    const std::vector<bool>& held = held_.at(name);
    for (std::uint64_t i = 0; i < kValues; ++i)
      ASSERT_EQ(store->put(keys_[i], values_[i], 1),
                held[i] ? PutResult::AlreadyThere : PutResult::Stored);
    EXPECT_EQ(store->stats().entries, static_cast<std::int64_t>(kValues));
  }

  /// Nothing new can be torn in a cache that is full: the next round begins with an empty one.
  void start_anew_when_full() {
    for (const auto& [name, held] : held_) {
      if (std::count(held.begin(), held.end(), true) <
          static_cast<std::ptrdiff_t>(kValues) * 9 / 10)
        continue;
      for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
        std::filesystem::remove_all(entry.path());
      held_.clear();
      ++builds_;
      return;
    }
  }

  static inline std::vector<CacheKey> keys_;
  static inline std::vector<std::vector<std::byte>> values_;
  TempDir folder_;
  std::map<std::string, std::vector<bool>> held_;
  int builds_ = 1;
};

INSTANTIATE_TEST_SUITE_P(
    Kinds, Killed,
    testing::Values(Campaign{"disk", {"disk"}, {"disk"}}, Campaign{"lmdb", {"lmdb"}, {"lmdb"}},
                    Campaign{"mixed",
                             {"disk", "lmdb", "tiered_disk", "tiered_lmdb", "ram_shared"},
                             {"disk", "lmdb"}}),
    [](const auto& campaign) { return campaign.param.name; });

TEST_P(Killed, WhileTwoProcessesBuildLosesAndTearsNothing) {
  const std::uint64_t seed = number_of("BRIM_TEST_SEED", std::random_device{}());
  SCOPED_TRACE("BRIM_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 generator(seed);
  const int rounds = (static_cast<int>(number_of("BRIM_TEST_KILLS", kKills)) + 1) / kWriters;
  std::map<std::string, int> killed;
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < rounds; ++round) {
    std::vector<pid_t> children;
    for (int writer = 0; writer < kWriters; ++writer) {
      const auto& names = GetParam().written;
      const StoreKind kind = kind_named(names[generator() % names.size()]);
      ++killed[kind.name];
      children.push_back(
          start_child([&, child_seed = generator()] { return build(kind, child_seed); }));
    }
    for (const pid_t child : children) {
      std::this_thread::sleep_for(std::chrono::microseconds(1000 + generator() % 60000));
      ::kill(child, SIGKILL);
    }
    for (const pid_t child : children) ASSERT_EQ(wait_child(child), "signal 9");
    for (const std::string& name : GetParam().verified) verify(name);
    if (testing::Test::HasFailure()) return;
    if (round + 1 < rounds) start_anew_when_full();
  }
  const auto took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start);
  std::printf("%d kills in %.1f s, %d builds;", rounds * kWriters, took.count(), builds_);
  for (const auto& [name, times] : killed) std::printf(" %s %d", name.c_str(), times);
  std::printf("\n");
  for (const std::string& name : GetParam().verified) complete(name);

  // Opening any shared memory clears up what the killed ones registered.
  const auto next = kind_named("ram_shared").open(folder_.file("other"), 1 << 20);
  EXPECT_FALSE(is_registered(folder_.path().string())) << "the dead are still in /dev/shm";
}

TEST(KilledDisk, WhileMakingASegmentLeavesNoOrphan) {
  const TempDir folder;
  write_file(folder.file("new-segment-0123456789abcdef.brim"), "half made");
  const auto store = make_disk_store({.directory = folder.path().string(), .byte_limit = 1 << 20});
  EXPECT_FALSE(std::filesystem::exists(folder.file("new-segment-0123456789abcdef.brim")));
}

/// A disk store of one segment whose last record lies in two pages.
class RecordInTwoPages : public testing::Test {
 protected:
  static constexpr std::uint64_t kValues = 114;
  static constexpr std::uint64_t kRecordAt = (1 << 20) - 36 * kValues;
  static constexpr std::uint64_t kFirst = 4096 - kRecordAt % 4096;
  static_assert(kFirst < 36);

  RecordInTwoPages() {
    const auto store = open();
    for (std::uint64_t i = 0; i < kValues; ++i) store->put(key_of(i), value_of(i, 100), 1);
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      if (entry.path().extension() == ".brim") file_ = entry.path().string();
    whole_ = read_file(file_).substr(kRecordAt, 36);
  }

  std::shared_ptr<Store> open() const {
    return make_disk_store(
        {.directory = folder_.path().string(), .byte_limit = 8 << 20, .segment_bytes = 1 << 20});
  }

  void write_record(const std::string& bytes) const {
    std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kRecordAt).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void write_half_of_the_record() const {
    write_record(whole_.substr(0, kFirst) + std::string(36 - kFirst, '\0'));
  }

  TempDir folder_;
  std::string file_, whole_;
};

TEST_F(RecordInTwoPages, IsNotThereWhenItsWriterWasKilledBetweenThem) {
  write_half_of_the_record();
  const std::uint64_t last = kValues - 1;
  {
    const auto store = open();
    Blob blob;
    EXPECT_FALSE(store->get(key_of(last), blob));
    EXPECT_EQ(store->stats().damaged, 0) << "nothing that was there is damaged";
    EXPECT_EQ(store->put(key_of(last), value_of(last, 100), 1), PutResult::Stored);
  }
  EXPECT_EQ(read_file(file_).substr(kRecordAt, 36), whole_) << "the segment was not continued";
  EXPECT_EQ(open()->stats().entries, static_cast<std::int64_t>(kValues));
}

TEST_F(RecordInTwoPages, IsSeenOnceItsWriterIsDone) {
  const int writer = ::open(file_.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(writer, LOCK_EX | LOCK_NB), 0);
  write_half_of_the_record();
  const auto store = open();
  EXPECT_EQ(store->stats().entries, static_cast<std::int64_t>(kValues) - 1);
  EXPECT_EQ(store->stats().damaged, 0);
  write_record(whole_);
  Blob blob;
  const auto start = std::chrono::steady_clock::now();
  while (!store->get(key_of(kValues - 1), blob)) {
    ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(store->stats().damaged, 0);
  ::close(writer);
}

TEST_F(RecordInTwoPages, IsDamagedWhenABitFlippedInIt) {
  std::string flipped = whole_;
  flipped[3] ^= 4;
  write_record(flipped);
  EXPECT_EQ(open()->stats().damaged, 1);
}

TEST(LmdbStore, SeesGrowthByAnotherProcess) {
  const TempDir folder;
  const LmdbStoreOptions options{
      .directory = folder.path().string(), .byte_limit = 64 << 20, .map_bytes = 1 << 18};
  constexpr std::uint64_t kMany = 400;
  // Forked before this process has threads: ThreadSanitizer follows no other child.
  const TempDir signals;
  const std::string opened = signals.file("opened");
  const pid_t child = start_child([&] {
    for (int i = 0; i < 60'000 && !std::filesystem::exists(opened); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto other = make_lmdb_store(options);
    for (std::uint64_t i = 1; i < kMany; ++i)
      if (other->put(key_of(i), value_of(i, 20000), 1) != PutResult::Stored) return 1;
    other->flush();
    return other->stats().last_error.empty() ? 0 : 2;
  });
  const auto store = make_lmdb_store(options);
  store->put(key_of(0), value_of(0, 100), 1);
  store->flush();
  write_file(opened, "");
  EXPECT_EQ(wait_child(child), "exit 0");
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
