#include <algorithm>
#include <sstream>
#include <thread>

#include "brim/cache/memory_budget.h"
#include "brim/cache/process_memory.h"
#include "cgroup.h"

namespace brim {
namespace {

using detail::field;
using detail::read_integer;
using detail::slurp;

/// "No limit" is written as a number near 2^63 (rounded to pages) in cgroup version 1.
constexpr std::int64_t kUnlimited = std::int64_t{1} << 60;

struct Own {
  std::int64_t resident = 0;
  std::int64_t unreclaimable = 0;
  std::int64_t address_space = 0;
  std::int64_t data = 0;
};

Own read_own(const std::string& prefix) {
  const std::string status = slurp(prefix + "/proc/self/status").value_or("");
  const std::int64_t anonymous = field(status, "RssAnon").value_or(0);
  const std::int64_t shmem = field(status, "RssShmem").value_or(0);
  return {.resident = field(status, "VmRSS").value_or(0),
          .unreclaimable = anonymous + shmem,
          .address_space = field(status, "VmSize").value_or(0) - idle_address_space(),
          .data = field(status, "VmData").value_or(0)};
}

class Reader {
 public:
  Reader(const std::string& root, MemoryLimits& limits)
      : prefix_(root == "/" ? "" : root), own_(read_own(prefix_)), limits_(limits) {
    limits_.own_resident = own_.resident;
    limits_.own_private = own_.unreclaimable;
  }

  /// `ceiling` is shared with others, who hold `used` minus what this process holds.
  void add_shared(const std::string& source, std::int64_t ceiling, std::int64_t used) {
    const std::int64_t others = std::max<std::int64_t>(0, used - own_.unreclaimable);
    limits_.all.push_back({source, std::max<std::int64_t>(0, ceiling - others), others, ceiling});
  }

  void read_rlimits() {
    std::istringstream lines(slurp(prefix_ + "/proc/self/limits").value_or(""));
    for (std::string line; std::getline(lines, line);) {
      add_rlimit(line, "Max address space", "RLIMIT_AS", own_.address_space);
      add_rlimit(line, "Max data size", "RLIMIT_DATA", own_.data);
    }
  }

  void read_cgroups(const std::string& root) {
    for (const detail::CgroupLevel& level : detail::cgroup_levels(root, "memory"))
      level.unified ? read_v2(level) : read_v1(level);
  }

  void read_machine() {
    const std::string text = slurp(prefix_ + "/proc/meminfo").value_or("");
    if (const auto available = field(text, "MemAvailable")) {
      const std::int64_t total = field(text, "MemTotal").value_or(*available);
      const std::int64_t limit = own_.unreclaimable + *available;
      limits_.all.push_back(
          {"MemAvailable", limit, std::max<std::int64_t>(0, total - limit), total});
    }
  }

  /// False where this process grew meanwhile, so that its growth was taken for use by others.
  bool steady() const {
    constexpr std::int64_t kSlack = std::int64_t{4} << 20;
    return read_own(prefix_).unreclaimable <= own_.unreclaimable + kSlack;
  }

 private:
  /// What may still be mapped under the limit comes on top of what is resident now.
  void add_rlimit(const std::string& line, const std::string& title, const std::string& source,
                  std::int64_t in_use) {
    if (line.rfind(title, 0) != 0) return;
    std::istringstream rest(line.substr(title.size()));
    std::int64_t soft = 0;
    if (!(rest >> soft) || soft >= kUnlimited) return;  // "unlimited" is no number
    const std::int64_t room = std::max<std::int64_t>(0, soft - in_use);
    limits_.all.push_back({source, std::min(soft, own_.resident + room), 0, soft});
  }

  void read_v2(const detail::CgroupLevel& level) {
    const auto current = read_integer(level.directory + "/memory.current");
    const std::string stat = slurp(level.directory + "/memory.stat").value_or("");
    const std::int64_t cache =
        field(stat, "inactive_file").value_or(0) + field(stat, "active_file").value_or(0);
    for (const char* name : {"memory.max", "memory.high"}) {
      const auto limit = read_integer(level.directory + "/" + name);
      if (!limit || *limit >= kUnlimited) continue;
      add_shared(std::string("cgroup v2 ") + name + " " + level.name, *limit,
                 std::max<std::int64_t>(0, current.value_or(0) - cache));
    }
  }

  void read_v1(const detail::CgroupLevel& level) {
    const auto usage = read_integer(level.directory + "/memory.usage_in_bytes");
    const std::string stat = slurp(level.directory + "/memory.stat").value_or("");
    const std::int64_t cache = field(stat, "total_inactive_file").value_or(0) +
                               field(stat, "total_active_file").value_or(0);
    const std::int64_t used = std::max<std::int64_t>(0, usage.value_or(0) - cache);
    const auto own_limit = read_integer(level.directory + "/memory.limit_in_bytes");
    if (own_limit && *own_limit < kUnlimited)
      add_shared("cgroup v1 memory.limit_in_bytes " + level.name, *own_limit, used);
    // Says what ancestors above the mount point allow, which a container cannot see otherwise.
    const auto hierarchical = field(stat, "hierarchical_memory_limit");
    if (hierarchical && *hierarchical < kUnlimited && (!own_limit || *hierarchical < *own_limit))
      add_shared("cgroup v1 hierarchical_memory_limit " + level.name, *hierarchical, used);
  }

  std::string prefix_;
  Own own_;
  MemoryLimits& limits_;
};

/// Number of CPUs in a list as "0-3,8".
int count_cpu_list(const std::string& text) {
  int count = 0;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    int first = 0;
    char dash = 0;
    std::istringstream range(part);
    if (!(range >> first)) continue;
    int last = first;
    if (range >> dash) range >> last;
    count += std::max(0, last - first + 1);
  }
  return count;
}

int affinity_cpus(const std::string& prefix) {
  std::istringstream lines(slurp(prefix + "/proc/self/status").value_or(""));
  const std::string name = "Cpus_allowed_list:";
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(name, 0) == 0) return count_cpu_list(line.substr(name.size()));
  return static_cast<int>(std::thread::hardware_concurrency());
}

/// Whole CPUs that a group's quota allows; 0: none set.
int quota_cpus(const detail::CgroupLevel& level) {
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (level.unified) {
    std::istringstream in(slurp(level.directory + "/cpu.max").value_or(""));
    if (!(in >> quota >> period)) return 0;  // "max 100000"
  } else {
    quota = read_integer(level.directory + "/cpu.cfs_quota_us").value_or(-1);
    period = read_integer(level.directory + "/cpu.cfs_period_us").value_or(0);
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::clamp<std::int64_t>(quota / period, 1, 1 << 20));
}

}  // namespace

MemoryLimits read_memory_limits(std::int64_t user_limit, const std::string& root) {
  constexpr int kTries = 8;
  MemoryLimits limits;
  for (int tries = 0; tries < kTries; ++tries) {
    limits = {};
    if (user_limit > 0) limits.all.push_back({"user", user_limit, 0, user_limit});
    Reader reader(root, limits);
    reader.read_rlimits();
    reader.read_cgroups(root);
    reader.read_machine();
    if (reader.steady()) break;
  }
  const auto smallest = std::min_element(
      limits.all.begin(), limits.all.end(),
      [](const MemoryLimit& a, const MemoryLimit& b) { return a.limit < b.limit; });
  if (smallest != limits.all.end()) {
    limits.effective = smallest->limit;
    limits.decided_by = smallest->source;
  }
  return limits;
}

int available_cpus(const std::string& root) {
  int cpus = std::max(1, affinity_cpus(root == "/" ? "" : root));
  for (const detail::CgroupLevel& level : detail::cgroup_levels(root, "cpu"))
    if (const int quota = quota_cpus(level); quota > 0) cpus = std::min(cpus, quota);
  return cpus;
}

}  // namespace brim
