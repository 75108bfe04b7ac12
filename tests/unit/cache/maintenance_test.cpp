#include "brim/cache/maintenance.h"

#include <gtest/gtest.h>

#include <fstream>

#include "brim/cache/error.h"
#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;

void fill(Store& store) {
  for (std::uint64_t i = 0; i < 30; ++i) store.put(key_of(i), value_of(i, 3000), 1);
  store.flush();
}

TEST(VerifyStore, FindsEveryEntryIntactInEveryKind) {
  for (const StoreKind& kind : store_kinds()) {
    SCOPED_TRACE(kind.name);
    const TempDir folder;
    const auto store = kind.open(folder.path().string(), 16 << 20);
    fill(*store);
    std::int64_t last = 0;
    const VerifyResult result = verify_store(*store, [&](std::int64_t done, std::int64_t total) {
      EXPECT_EQ(total, 30);
      last = done;
    });
    EXPECT_EQ(result.entries, 30);
    EXPECT_EQ(result.intact, 30);
    EXPECT_EQ(result.value_bytes, 30 * 3000);
    EXPECT_EQ(last, 30);
  }
}

TEST(VerifyStore, DropsWhatIsDamaged) {
  const TempDir folder;
  {
    const auto store = make_store(
        {.mode = CacheMode::Disk, .directory = folder.path().string(), .byte_limit = 1 << 20});
    fill(*store);
  }
  for (const auto& entry : fs::directory_iterator(folder.path() / "disk")) {
    if (!entry.path().filename().string().starts_with("segment-")) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(64 + 3000 * 4 + 100);  // somewhere in the fifth value
    file.put('\x55').put('\x55').put('\x55');
  }
  const auto store = make_store(
      {.mode = CacheMode::Disk, .directory = folder.path().string(), .byte_limit = 1 << 20});
  EXPECT_EQ(verify_store(*store).damaged, 1);
  EXPECT_EQ(verify_store(*store).entries, 29) << "the damaged one is gone";
}

TEST(RemoveCaches, TakesOwnFilesOnlyAndNotWhileTheyAreUsed) {
  const TempDir folder;
  const std::string path = folder.path().string();
  EXPECT_TRUE(find_cache_folders(path).empty());
  for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
    const auto store = make_store({.mode = mode, .directory = path, .byte_limit = 8 << 20});
    fill(*store);
    EXPECT_THROW(remove_caches(path), Error) << to_string(mode);
    EXPECT_EQ(verify_store(*store).intact, 30) << "nothing was removed under a user";
  }
  write_file(folder.file("lmdb/mine.txt"), "keep");
  const std::vector<CacheFolder> folders = find_cache_folders(path);
  ASSERT_EQ(folders.size(), 2U);
  EXPECT_GT(folders[0].disk_bytes, 30 * 3000);
  EXPECT_EQ(folders[1].mode, CacheMode::Lmdb);
  EXPECT_GT(remove_caches(path), 2 * 30 * 3000);
  EXPECT_FALSE(fs::exists(path + "/disk"));
  EXPECT_EQ(read_file(folder.file("lmdb/mine.txt")), "keep");
  EXPECT_TRUE(find_cache_folders(path).empty());
}

TEST(CollectGarbage, DropsEntriesThatNobodyWants) {
  for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
    SCOPED_TRACE(to_string(mode));
    const FastDir folder;
    const CacheOptions options{.mode = mode, .directory = folder.path(), .byte_limit = 4 << 20};
    fill(*make_store(options));
    const KeepEntry even = [](const CacheKey& key) {
      for (std::uint64_t i = 0; i < 30; i += 2)
        if (key == key_of(i)) return true;
      return false;
    };
    const GarbageResult plan = collect_garbage(options.directory, even, GarbageMode::DryRun);
    EXPECT_EQ(plan.entries, 30);
    EXPECT_EQ(plan.removed_entries, 15);
    EXPECT_GT(plan.freed_bytes, 0);
    EXPECT_EQ(make_store(options)->stats().entries, 30) << "a dry run changes nothing";
    const GarbageResult done = collect_garbage(options.directory, even, GarbageMode::Remove);
    EXPECT_EQ(done.removed_entries, 15);
    EXPECT_GT(done.freed_bytes, 15 * 3000 / 2);
    const auto store = make_store(options);
    Blob blob;
    for (std::uint64_t i = 0; i < 30; ++i) {
      EXPECT_EQ(store->get(key_of(i), blob), i % 2 == 0) << i;
      if (i % 2 == 0) {
        EXPECT_TRUE(same(blob.bytes, value_of(i, 3000)));
      }
    }
    EXPECT_EQ(collect_garbage(options.directory, even, GarbageMode::DryRun).removed_entries, 0);
  }
}

TEST(CollectGarbage, KeepsWhatIsNotACachesOwn) {
  for (const CacheMode mode : {CacheMode::Disk, CacheMode::Lmdb}) {
    SCOPED_TRACE(to_string(mode));
    const FastDir folder;
    const CacheOptions options{.mode = mode, .directory = folder.path(), .byte_limit = 4 << 20};
    fill(*make_store(options));
    const std::string mine = folder.path() + "/" + to_string(mode) + "/mine";
    fs::create_directories(mine);
    write_file(mine + "/notes.txt", "keep");
    const KeepEntry none = [](const CacheKey&) { return false; };
    EXPECT_EQ(collect_garbage(options.directory, none, GarbageMode::Remove).removed_entries, 30);
    EXPECT_EQ(read_file(mine + "/notes.txt"), "keep");
    EXPECT_EQ(make_store(options)->stats().entries, 0);
  }
}

TEST(CollectGarbage, LeavesTheCopyOfAnotherCollectionAlone) {
  const FastDir folder;
  const std::string fresh = folder.path() + "/disk.fresh";
  const auto copy = make_disk_store({.directory = fresh, .byte_limit = 4 << 20});
  fill(*copy);
  EXPECT_THROW(collect_garbage(folder.path(), {}, GarbageMode::Remove), Error);
  EXPECT_TRUE(fs::exists(fresh));
}

TEST(CollectGarbage, LeavesACacheInUseAlone) {
  const FastDir folder;
  const CacheOptions options{
      .mode = CacheMode::Disk, .directory = folder.path(), .byte_limit = 4 << 20};
  const auto store = make_store(options);
  fill(*store);
  const KeepEntry none = [](const CacheKey&) { return false; };
  EXPECT_THROW(collect_garbage(options.directory, none, GarbageMode::Remove), Error);
  Blob blob;
  EXPECT_TRUE(store->get(key_of(3), blob));
  EXPECT_FALSE(fs::exists(folder.path() + "/disk.fresh"));
}

TEST(CollectGarbage, RemovesWhatKilledProcessesLeft) {
  const FastDir folder;
  const CacheOptions options{
      .mode = CacheMode::Disk, .directory = folder.path(), .byte_limit = 4 << 20};
  fill(*make_store(options));
  write_file(folder.path() + "/disk/new-segment-0123456789abcdef.brim", "half made");
  fs::create_directories(folder.path() + "/lmdb.fresh");
  write_file(folder.path() + "/lmdb.fresh/data.mdb", "half copied");
  EXPECT_EQ(collect_garbage(options.directory, {}, GarbageMode::DryRun).leftovers, 2);
  EXPECT_TRUE(fs::exists(folder.path() + "/lmdb.fresh"));
  EXPECT_EQ(collect_garbage(options.directory, {}, GarbageMode::Remove).leftovers, 2);
  EXPECT_FALSE(fs::exists(folder.path() + "/lmdb.fresh"));
  EXPECT_FALSE(fs::exists(folder.path() + "/disk/new-segment-0123456789abcdef.brim"));
  EXPECT_EQ(make_store(options)->stats().entries, 30);
}

}  // namespace
}  // namespace brim::test
