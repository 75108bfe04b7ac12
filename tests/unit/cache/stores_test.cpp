#include "brim/cache/stores.h"

#include <gtest/gtest.h>

#include "brim/cache/error.h"
#include "support/cache_values.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

TEST(CacheMode, IsParsedAndNamed) {
  for (const char* name : {"none", "ram", "disk", "lmdb", "tiered"})
    EXPECT_EQ(to_string(parse_cache_mode(name)), name);
  try {
    parse_cache_mode("rom", "loader.cache");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "loader.cache: 'rom' is no cache mode\nhint: one of none, ram, disk, lmdb, tiered");
  }
}

TEST(DefaultCacheDirectory, FollowsTheBaseDirectoryRules) {
  EXPECT_EQ(default_cache_directory("/x/cache", "/home/u"), "/x/cache/brim");
  EXPECT_EQ(default_cache_directory("", "/home/u"), "/home/u/.cache/brim");
  EXPECT_EQ(default_cache_directory("relative", "/home/u"), "/home/u/.cache/brim");
  EXPECT_TRUE(default_cache_directory("", "").starts_with("/var/tmp/brim-"));
}

TEST(MakeStore, BuildsEveryMode) {
  const TempDir folder;
  const auto budget = MemoryBudget::make({.byte_limit = 64 << 20});
  EXPECT_EQ(make_store({.mode = CacheMode::None}), nullptr);
  for (const CacheMode mode :
       {CacheMode::Ram, CacheMode::Disk, CacheMode::Lmdb, CacheMode::Tiered}) {
    const auto store = make_store({.mode = mode,
                                   .directory = folder.path().string(),
                                   .byte_limit = 32 << 20,
                                   .budget = budget});
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->put(key_of(1), value_of(1, 1000), 1),
              mode == CacheMode::Tiered ? PutResult::AlreadyThere : PutResult::Stored)
        << "tiered shares its folder with disk";
    Blob blob;
    ASSERT_TRUE(store->get(key_of(1), blob)) << to_string(mode);
    EXPECT_TRUE(same(blob.bytes, value_of(1, 1000)));
    EXPECT_NE(store->describe().find(mode == CacheMode::Tiered ? "over disk" : to_string(mode)),
              std::string::npos);
  }
}

TEST(MakeStore, SaysWhyAFolderCannotBeUsed) {
  const TempDir folder;
  write_file(folder.file("taken"), "a file");
  for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
    EXPECT_THROW(make_store({.mode = mode}), Error) << "no folder given";
    try {
      make_store({.mode = mode, .directory = folder.file("taken")});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.where().key, "loader.cache_dir");
      EXPECT_NE(error.message().find("taken"), std::string::npos);
    }
  }
}

TEST(TieredStore, PromotesWhatTheSlowTierHolds) {
  const TempDir folder;
  const auto slow = make_disk_store({.directory = folder.path().string(), .byte_limit = 8 << 20});
  slow->put(key_of(1), value_of(1, 1000), 1);
  const auto fast = make_ram_store({.budget = MemoryBudget::make({.byte_limit = 8 << 20})});
  const auto both = make_tiered_store(fast, slow);
  Blob blob;
  ASSERT_TRUE(both->get(key_of(1), blob));
  EXPECT_TRUE(same(blob.bytes, value_of(1, 1000)));
  EXPECT_TRUE(fast->contains(key_of(1)));
  EXPECT_FALSE(both->get(key_of(2), blob));
  EXPECT_EQ(both->stats().hits, 1);
  EXPECT_EQ(both->stats().misses, 1);
  EXPECT_GT(both->release(1 << 20), 0);
  EXPECT_TRUE(both->get(key_of(1), blob)) << "the slow tier still holds it";
}

TEST(DiskStore, SeesWhatAnotherStoreOfTheSameFolderAdds) {
  const TempDir folder;
  const DiskStoreOptions options{.directory = folder.path().string(), .byte_limit = 8 << 20};
  const auto a = make_disk_store(options);
  const auto b = make_disk_store(options);
  Blob blob;
  for (std::uint64_t i = 0; i < 20; ++i)
    ASSERT_EQ((i % 2 == 0 ? a : b)->put(key_of(i), value_of(i, 3000), 1), PutResult::Stored);
  const auto c = make_disk_store(options);
  for (std::uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(c->get(key_of(i), blob));
    EXPECT_TRUE(same(blob.bytes, value_of(i, 3000)));
  }
}

TEST(DiskStore, ContinuesTheSegmentOfAProcessThatEnded) {
  const TempDir folder;
  for (std::uint64_t i = 0; i < 10; ++i) {
    const auto store =
        make_disk_store({.directory = folder.path().string(), .byte_limit = 8 << 20});
    ASSERT_EQ(store->put(key_of(i), value_of(i, 3000), 1), PutResult::Stored);
    EXPECT_EQ(store->stats().entries, static_cast<std::int64_t>(i) + 1);
  }
  int segments = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    segments += entry.path().filename().string().starts_with("segment-") ? 1 : 0;
  EXPECT_EQ(segments, 1);
}

TEST(LmdbStore, IsNeverOpenedTwiceInAProcess) {
  const TempDir folder;
  const LmdbStoreOptions options{.directory = folder.file("db"), .byte_limit = 8 << 20};
  auto a = make_lmdb_store(options);
  std::filesystem::create_symlink(folder.file("db"), folder.file("same"));
  auto b = make_lmdb_store({.directory = folder.file("same"), .byte_limit = 8 << 20});
  EXPECT_EQ(a, b);
  a->put(key_of(1), value_of(1, 100), 1);
  a.reset();
  b.reset();
  a = make_lmdb_store(options);
  EXPECT_TRUE(a->contains(key_of(1)));
}

TEST(LmdbStore, IsReadableByMdbDump) {
  if (std::system("command -v mdb_dump >/dev/null") != 0) GTEST_SKIP() << "no mdb_dump here";
  const TempDir folder;
  auto store = make_lmdb_store({.directory = folder.path().string(), .byte_limit = 8 << 20});
  store->put(key_of(1), std::as_bytes(std::span("hello brim", 10)), 1);
  store->flush();
  const std::string dump = folder.file("dump");
  ASSERT_EQ(std::system(("mdb_dump " + folder.path().string() + " > " + dump).c_str()), 0);
  const std::string text = read_file(dump);
  EXPECT_NE(text.find("6272696d2e666f726d6174"), std::string::npos) << "key brim.format";
  EXPECT_NE(text.find("68656c6c6f206272696d"), std::string::npos) << "the value itself";
}

TEST(LmdbStore, LeavesADatabaseOfSomebodyElseAlone) {
  const TempDir folder;
  write_file(folder.file("data.mdb"), std::string(8192, 'x'));
  try {
    make_lmdb_store({.directory = folder.path().string()});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("not a brim cache"), std::string::npos);
  }
  EXPECT_EQ(read_file(folder.file("data.mdb")), std::string(8192, 'x'));
}

TEST(LmdbStore, AnswersFullInsteadOfWaitingWhenAskedTo) {
  const TempDir folder;
  const auto store = make_lmdb_store({.directory = folder.path().string(),
                                      .byte_limit = 64 << 20,
                                      .batch_bytes = 64 << 10,
                                      .when_busy = WhenBusy::Drop});
  bool dropped = false;
  for (std::uint64_t i = 0; i < 500 && !dropped; ++i)
    dropped = store->put(key_of(i), value_of(i, 60000), 1) == PutResult::Full;
  EXPECT_TRUE(dropped);
}

}  // namespace
}  // namespace brim::test
