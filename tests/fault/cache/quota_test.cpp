// A user's quota that runs out: EDQUOT from every call that takes disk, LMDB's own included. Not
// every kernel has a file system with quotas to mount, so the calls are taken over here.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "support/cache_values.h"
#include "support/child_process.h"

namespace {

std::atomic<std::int64_t> g_quota{-1};  ///< bytes that may still be written; -1: no quota

bool over_quota(std::size_t bytes) {
  if (g_quota.load() < 0) return false;
  if (g_quota.load() >= static_cast<std::int64_t>(bytes)) {
    g_quota -= static_cast<std::int64_t>(bytes);
    return false;
  }
  errno = EDQUOT;
  return true;
}

template <class Function>
Function* original(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

std::size_t total(const iovec* parts, int count) {
  std::size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  return bytes;
}

}  // namespace

extern "C" {

ssize_t pwrite(int file, const void* data, size_t bytes, off_t at) {
  static auto* const next = original<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return over_quota(bytes) ? -1 : next(file, data, bytes, at);
}

ssize_t pwrite64(int file, const void* data, size_t bytes, off64_t at) {
  static auto* const next = original<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  return over_quota(bytes) ? -1 : next(file, data, bytes, at);
}

ssize_t pwritev(int file, const iovec* parts, int count, off_t at) {
  static auto* const next = original<ssize_t(int, const iovec*, int, off_t)>("pwritev");
  return over_quota(total(parts, count)) ? -1 : next(file, parts, count, at);
}

ssize_t pwritev64(int file, const iovec* parts, int count, off64_t at) {
  static auto* const next = original<ssize_t(int, const iovec*, int, off64_t)>("pwritev64");
  return over_quota(total(parts, count)) ? -1 : next(file, parts, count, at);
}

}  // extern "C"

namespace brim::test {
namespace {

std::vector<StoreKind> lasting_kinds() {
  std::vector<StoreKind> kinds;
  for (const StoreKind& kind : store_kinds())
    if (kind.lasting) kinds.push_back(kind);
  return kinds;
}

class Quota : public testing::TestWithParam<StoreKind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, Quota, testing::ValuesIn(lasting_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(Quota, CostsEntriesAndNothingElse) {
  constexpr std::uint64_t kValues = 200;
  constexpr std::size_t kBytes = 20000;
  const FastDir folder;
  const std::string end = in_child([&] {
    const auto store = GetParam().open(folder.path(), std::int64_t{64} << 20);
    g_quota = 2 << 20;
    for (std::uint64_t i = 0; i < kValues; ++i) store->put(key_of(i), value_of(i, kBytes), 1);
    store->flush();
    Blob blob;
    std::uint64_t held = 0;
    for (std::uint64_t i = 0; i < kValues; ++i) {
      if (!store->get(key_of(i), blob)) continue;
      if (!same(blob.bytes, value_of(i, kBytes))) return 1;
      ++held;
    }
    if (held == 0 || held == kValues) return 2;
    const StoreStats stats = store->stats();
    if (stats.rejected == 0 || stats.damaged != 0) return 3;
    return stats.last_error.find("quota") != std::string::npos ? 0 : 4;
  });
  EXPECT_EQ(end, "exit 0");
  EXPECT_EQ(in_child([&] {
              const auto store = GetParam().open(folder.path(), std::int64_t{64} << 20);
              if (store->stats().entries == 0 || store->stats().damaged != 0) return 1;
              for (std::uint64_t i = 0; i < kValues; ++i)
                store->put(key_of(i), value_of(i, kBytes), 1);
              return store->stats().entries == static_cast<std::int64_t>(kValues) ? 0 : 2;
            }),
            "exit 0")
      << "with room again the rest is kept, too";
}

}  // namespace
}  // namespace brim::test
