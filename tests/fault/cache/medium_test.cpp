#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "brim/cache/error.h"
#include "support/allocations.h"
#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNoRoom = "a sanitizer's own memory does not fit below such a limit";

std::vector<StoreKind> lasting_kinds() {
  std::vector<StoreKind> kinds;
  for (const StoreKind& kind : store_kinds())
    if (kind.lasting) kinds.push_back(kind);
  return kinds;
}

class Medium : public testing::TestWithParam<StoreKind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, Medium, testing::ValuesIn(lasting_kinds()),
                         [](const auto& kind) { return kind.param.name; });

/// Offers more than the medium takes. 0: it said so, kept what it took, and served nothing wrong.
int overfill(const StoreKind& kind, const std::string& folder) {
  const auto store = kind.open(folder, std::int64_t{64} << 20);
  constexpr std::uint64_t kValues = 600;
  for (std::uint64_t i = 0; i < kValues; ++i) store->put(key_of(i), value_of(i, 20000), 1);
  store->flush();
  Blob blob;
  int held = 0;
  for (std::uint64_t i = 0; i < kValues; ++i) {
    if (!store->get(key_of(i), blob)) continue;
    if (!same(blob.bytes, value_of(i, 20000))) return 1;
    ++held;
  }
  if (held == 0) return 2;
  if (store->stats().rejected == 0) return 3;
  if (store->stats().last_error.empty()) return 4;
  return 0;
}

TEST_P(Medium, ThatIsFullCostsEntriesAndNothingElse) {
  const TempDir folder;
  const std::string mount = folder.file("small");
  fs::create_directory(mount);
  if (::mount("tmpfs", mount.c_str(), "tmpfs", 0, "size=4m") != 0)
    GTEST_SKIP() << "may not mount a small file system here";
  const std::string end = in_child([&] { return overfill(GetParam(), mount); });
  const std::string again = in_child([&] {
    const auto store = GetParam().open(mount, std::int64_t{64} << 20);
    return store->stats().entries > 0 && store->stats().damaged == 0 ? 0 : 1;
  });
  ::umount2(mount.c_str(), MNT_DETACH);
  EXPECT_EQ(end, "exit 0");
  EXPECT_EQ(again, "exit 0") << "what was kept is there after a restart";
}

TEST_P(Medium, WithAFileSizeLimitCostsEntriesAndNothingElse) {
  const FastDir folder;
  EXPECT_EQ(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{3 << 20, 3 << 20};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              const int code = overfill(GetParam(), folder.path());
              // Files of 1 MiB pass under this limit, so a disk store need not notice it.
              return code == 3 && GetParam().name.ends_with("disk") ? 0 : code;
            }),
            "exit 0");
}

TEST_P(Medium, WithoutAddressSpaceForALargerMapGoesOn) {
  if (!counts_allocations()) GTEST_SKIP() << kNoRoom;
  const FastDir folder;
  EXPECT_EQ(in_child([&] {
              const rlimit limit{256 << 20, 256 << 20};
              ::setrlimit(RLIMIT_AS, &limit);
              const auto store = GetParam().open(folder.path(), std::int64_t{1} << 30);
              Blob blob;
              for (std::uint64_t i = 0; i < 2000; ++i) {
                store->put(key_of(i), value_of(i, 100000), 1);
                if (store->get(key_of(i), blob) && !same(blob.bytes, value_of(i, 100000))) return 1;
              }
              return store->get(key_of(0), blob) ? 0 : 2;
            }),
            "exit 0");
}

TEST(LmdbMedium, BeginsWithASmallerMapWhereAddressSpaceIsShort) {
  if (!counts_allocations()) GTEST_SKIP() << kNoRoom;
  const FastDir folder;
  EXPECT_EQ(in_child([&] {
              const rlimit limit{512 << 20, 512 << 20};  // a map is a gigabyte at first
              ::setrlimit(RLIMIT_AS, &limit);
              const auto store = make_lmdb_store({.directory = folder.path()});
              store->put(key_of(1), value_of(1, 100000), 1);
              store->flush();
              Blob blob;
              return store->get(key_of(1), blob) && same(blob.bytes, value_of(1, 100000)) ? 0 : 1;
            }),
            "exit 0");
}

/// Runs `body` as a user who may read but not write `folder`.
std::string without_write_permission(const std::string& folder, const std::function<int()>& body) {
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    ::chmod(entry.path().c_str(), entry.is_directory() ? 0555 : 0444);
  ::chmod(folder.c_str(), 0555);
  const std::string end = in_child([&] {
    if (::getuid() == 0 && ::setuid(65534) != 0) return 77;
    if (::access(folder.c_str(), W_OK) == 0) return 77;
    return body();
  });
  ::chmod(folder.c_str(), 0755);
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    ::chmod(entry.path().c_str(), entry.is_directory() ? 0755 : 0644);
  return end;
}

TEST_P(Medium, ThatMayOnlyBeReadIsRead) {
  const TempDir folder;
  const std::string path = folder.path().string();
  {
    const auto store = GetParam().open(path, 8 << 20);
    for (std::uint64_t i = 0; i < 20; ++i) store->put(key_of(i), value_of(i, 5000), 1);
    store->flush();
  }
  const std::string end = without_write_permission(path, [&] {
    const auto store = GetParam().open(path, 8 << 20);
    Blob blob;
    for (std::uint64_t i = 0; i < 20; ++i)
      if (!store->get(key_of(i), blob) || !same(blob.bytes, value_of(i, 5000))) return 1;
    if (store->stats().last_error.empty()) return 2;
    const bool tiered = GetParam().name.starts_with("tiered");
    const PutResult result = store->put(key_of(50), value_of(50, 100), 1);
    return result == (tiered ? PutResult::Stored : PutResult::Failed) ? 0 : 3;
  });
  if (end == "exit 77") GTEST_SKIP() << "cannot give up the permission to write here";
  EXPECT_EQ(end, "exit 0");
}

TEST_P(Medium, ThatMayNotBeWrittenAndIsEmptyIsAnError) {
  const TempDir folder;
  const std::string path = folder.path().string();
  const std::string end = without_write_permission(path, [&] {
    try {
      GetParam().open(path, 8 << 20);
      return 1;
    } catch (const Error& error) {
      return error.where().key == "loader.cache_dir" && !error.hint().empty() ? 0 : 2;
    }
  });
  if (end == "exit 77") GTEST_SKIP() << "cannot give up the permission to write here";
  EXPECT_EQ(end, "exit 0");
}

/// Fills a RAM cache as far as it goes, under whatever limit the process has got.
int fill_ram(std::int64_t limit) {
  const auto budget = MemoryBudget::make();
  const auto store = make_ram_store({.budget = budget});
  const auto value = value_of(1, 200000);
  std::uint64_t i = 0;
  while (store->put(key_of(i), value, 1) == PutResult::Stored)
    if (static_cast<std::int64_t>(++i) * 200000 > limit) return 1;
  return static_cast<double>(i) * 200000 > 0.5 * static_cast<double>(limit) ? 0 : 2;
}

TEST(MemoryCeiling, HoldsUnderALimitOnData) {
  if (!counts_allocations()) GTEST_SKIP() << kNoRoom;
  EXPECT_EQ(in_child([] {
              const rlimit limit{100 << 20, 100 << 20};
              ::setrlimit(RLIMIT_DATA, &limit);
              return fill_ram(100 << 20);
            }),
            "exit 0");
}

TEST(MemoryCeiling, HoldsInsideAControlGroup) {
  if (!counts_allocations()) GTEST_SKIP() << kNoRoom;
  const std::int64_t limit = 120 << 20;
  std::string group;
  for (const std::string& base :
       {std::string("/sys/fs/cgroup/memory"), std::string("/sys/fs/cgroup")}) {
    group = base + "/brim-test-" + std::to_string(::getpid());
    std::error_code error;
    if (!fs::exists(base + "/cgroup.procs") || !fs::create_directory(group, error)) continue;
    const bool v1 = fs::exists(group + "/memory.limit_in_bytes");
    if (v1 || fs::exists(group + "/memory.max")) {
      write_file(group + (v1 ? "/memory.limit_in_bytes" : "/memory.max"), std::to_string(limit));
      break;
    }
    ::rmdir(group.c_str());
    group.clear();
  }
  if (group.empty() || !fs::exists(group)) GTEST_SKIP() << "may not make a control group here";
  const std::string end = in_child([&] {
    write_file(group + "/cgroup.procs", std::to_string(::getpid()));
    return fill_ram(limit);
  });
  ::rmdir(group.c_str());
  EXPECT_EQ(end, "exit 0") << "signal 9: killed for memory";
}

}  // namespace
}  // namespace brim::test
