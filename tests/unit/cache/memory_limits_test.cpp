#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <thread>

#include "brim/cache/memory_budget.h"
#include "support/test_data.h"

namespace brim {
namespace {

using test::TempDir;
using test::write_file;

constexpr std::int64_t kMiB = 1 << 20;

/// A made file system root: a process with 100 MiB private (80 anonymous, 20 shmem) of 150
/// resident, on a machine with 8 GiB available of 16.
class MadeRoot {
 public:
  MadeRoot() {
    put("/proc/self/status",
        "Name:\tx\nVmSize:\t  1048576 kB\nVmRSS:\t  153600 kB\nRssAnon:\t   81920 kB\n"
        "RssFile:\t   51200 kB\nRssShmem:\t   20480 kB\nVmData:\t  204800 kB\n"
        "Cpus_allowed_list:\t0-5,8,10-11\n");
    put("/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max data size             unlimited            unlimited            bytes     \n"
        "Max address space         unlimited            unlimited            bytes     \n");
    put("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n");
  }
  void put(const std::string& path, const std::string& text) {
    write_file(folder_.path().string() + path, text);
  }
  void mounts(const std::string& text) { put("/proc/self/mountinfo", text); }
  std::string root() const { return folder_.path().string(); }

 private:
  TempDir folder_;
};

const char* const kUnifiedMount =
    "31 22 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

TEST(MemoryLimits, WithoutAnyLimitAreOwnUsePlusWhatIsAvailable) {
  const MadeRoot made;
  const MemoryLimits limits = read_memory_limits(0, made.root());
  EXPECT_EQ(limits.effective, 8192 * kMiB + 100 * kMiB);
  EXPECT_EQ(limits.decided_by, "MemAvailable");
  EXPECT_EQ(limits.own_resident, 150 * kMiB);
  EXPECT_EQ(limits.own_private, 100 * kMiB);
}

TEST(MemoryLimits, TakeTheUsersWhenItIsSmallest) {
  const MadeRoot made;
  const MemoryLimits limits = read_memory_limits(300 * kMiB, made.root());
  EXPECT_EQ(limits.effective, 300 * kMiB);
  EXPECT_EQ(limits.decided_by, "user");
}

TEST(MemoryLimits, CountWhatMayStillBeMappedUnderResourceLimits) {
  MadeRoot made;
  made.put("/proc/self/limits",
           "Max data size             1073741824           unlimited            bytes\n"
           "Max address space         1610612736           unlimited            bytes\n");
  const MemoryLimits limits = read_memory_limits(0, made.root());
  // address space: 1536 - 1024 in use, data: 1024 - 200 in use; on top of 150 MiB resident
  EXPECT_EQ(limits.effective, 662 * kMiB);
  EXPECT_EQ(limits.decided_by, "RLIMIT_AS");
  EXPECT_EQ(limits.all.at(1).ceiling, 1536 * kMiB);
}

TEST(MemoryLimits, WalkEveryVersion2AncestorAndLeaveOutPageCache) {
  MadeRoot made;
  made.mounts(kUnifiedMount);
  made.put("/proc/self/cgroup", "0::/a/b\n");
  const std::string base = "/sys/fs/cgroup";
  made.put(base + "/a/b/memory.max", "max\n");
  made.put(base + "/a/b/memory.high", "2147483648\n");
  made.put(base + "/a/b/memory.current", "524288000\n");
  made.put(base + "/a/b/memory.stat", "anon 1\ninactive_file 104857600\nactive_file 104857600\n");
  made.put(base + "/a/memory.max", "1073741824\n");
  made.put(base + "/a/memory.high", "max\n");
  made.put(base + "/a/memory.current", "734003200\n");
  made.put(base + "/a/memory.stat", "inactive_file 104857600\nactive_file 0\nshmem 104857600\n");
  const MemoryLimits limits = read_memory_limits(0, made.root());
  // 700 used - 100 page cache - 100 own = 500 held by others, of 1024
  EXPECT_EQ(limits.effective, 524 * kMiB);
  EXPECT_EQ(limits.decided_by, "cgroup v2 memory.max /a");
  ASSERT_GE(limits.all.size(), 2U);
  EXPECT_EQ(limits.all[0].source, "cgroup v2 memory.high /a/b");
  EXPECT_EQ(limits.all[0].limit, 2048 * kMiB - 200 * kMiB);
  EXPECT_EQ(limits.all[1].used_by_others, 500 * kMiB);
}

TEST(MemoryLimits, ReadVersion1WithItsSentinelAndHierarchy) {
  MadeRoot made;
  made.mounts(
      "35 31 0:32 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
      "36 31 0:33 /docker/c1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
  made.put("/proc/self/cgroup", "4:memory:/docker/c1\n1:cpu,cpuacct:/docker/c1\n0::/\n");
  const std::string base = "/sys/fs/cgroup/memory";
  made.put(base + "/memory.limit_in_bytes", "9223372036854771712\n");
  made.put(base + "/memory.usage_in_bytes", "314572800\n");
  made.put(base + "/memory.stat",
           "inactive_file 1\nhierarchical_memory_limit 1073741824\n"
           "total_inactive_file 52428800\ntotal_active_file 52428800\n");
  MemoryLimits limits = read_memory_limits(0, made.root());
  EXPECT_EQ(limits.effective, 924 * kMiB);
  EXPECT_EQ(limits.decided_by, "cgroup v1 hierarchical_memory_limit /");
  made.put(base + "/memory.limit_in_bytes", "536870912\n");
  limits = read_memory_limits(0, made.root());
  EXPECT_EQ(limits.effective, 412 * kMiB);
  EXPECT_EQ(limits.decided_by, "cgroup v1 memory.limit_in_bytes /");
}

TEST(MemoryLimits, DoNotTakeTheGrowthOfThisProcessForUseByOthers) {
  MadeRoot made;
  made.mounts(kUnifiedMount);
  made.put("/proc/self/cgroup", "0::/job\n");
  made.put("/sys/fs/cgroup/job/memory.max", "1073741824\n");
  // Others hold 50 MiB. At every moment the group holds no more than they and this process.
  const auto replace = [&](const std::string& path, const std::string& text) {
    made.put(path + ".new", text);
    std::filesystem::rename(made.root() + path + ".new", made.root() + path);
  };
  const auto own = [&](int mib) {
    replace("/proc/self/status", "VmRSS:\t" + std::to_string(mib * 1024) + " kB\nRssAnon:\t" +
                                     std::to_string(mib * 1024) + " kB\n");
  };
  const auto group = [&](int mib) {
    replace("/sys/fs/cgroup/job/memory.current", std::to_string(mib * kMiB) + "\n");
  };
  own(100);
  group(150);
  std::atomic<bool> stop{false};
  std::jthread process([&] {
    while (!stop) {
      own(400);
      group(450);
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      group(150);
      own(100);
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
  });
  std::int64_t least = INT64_MAX;
  for (int i = 0; i < 2000; ++i)
    least = std::min(least, read_memory_limits(0, made.root()).effective);
  stop = true;
  EXPECT_GE(least, (1024 - 50 - 4) * kMiB);
}

TEST(MemoryLimits, ReadBothHierarchiesOfAHybridMachine) {
  MadeRoot made;
  made.mounts(
      "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "41 31 0:38 / /sys/fs/cgroup/with\\040space rw - cgroup2 cgroup2 rw\n");
  made.put("/proc/self/cgroup", "4:memory:/x/y\n0::/u\n");
  made.put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4294967296\n");
  made.put("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "3221225472\n");
  made.put("/sys/fs/cgroup/with space/u/memory.max", "2147483648\n");
  const MemoryLimits limits = read_memory_limits(0, made.root());
  EXPECT_EQ(limits.decided_by, "cgroup v2 memory.max /u");
  EXPECT_EQ(limits.effective, 2048 * kMiB);
  EXPECT_EQ(limits.all.size(), 4U);  // /x/y, /x, /u, MemAvailable
}

TEST(MemoryLimits, AreReadFromThisMachine) {
  const MemoryLimits limits = read_memory_limits();
  EXPECT_GT(limits.effective, 0);
  EXPECT_FALSE(limits.decided_by.empty());
  EXPECT_GT(limits.own_resident, 0);
}

TEST(AvailableCpus, AreTheAffinityMaskWithoutQuota) {
  const MadeRoot made;
  EXPECT_EQ(available_cpus(made.root()), 9);
  EXPECT_GE(available_cpus(), 1);
}

TEST(AvailableCpus, AreCutByTheQuotaOfAnyAncestor) {
  MadeRoot made;
  made.mounts(kUnifiedMount);
  made.put("/proc/self/cgroup", "0::/a/b\n");
  made.put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  made.put("/sys/fs/cgroup/a/cpu.max", "350000 100000\n");
  EXPECT_EQ(available_cpus(made.root()), 3);
  made.put("/sys/fs/cgroup/a/b/cpu.max", "20000 100000\n");
  EXPECT_EQ(available_cpus(made.root()), 1);
}

TEST(AvailableCpus, ReadVersion1Quotas) {
  MadeRoot made;
  made.mounts("36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
  made.put("/proc/self/cgroup", "1:cpu,cpuacct:/j\n");
  made.put("/sys/fs/cgroup/cpu/j/cpu.cfs_quota_us", "-1\n");
  made.put("/sys/fs/cgroup/cpu/j/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(available_cpus(made.root()), 9);
  made.put("/sys/fs/cgroup/cpu/j/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(available_cpus(made.root()), 2);
}

}  // namespace
}  // namespace brim
