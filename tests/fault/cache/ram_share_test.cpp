#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <span>
#include <sstream>
#include <thread>

#include "brim/cache/maintenance.h"
#include "support/cache_values.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// Every test has a share of its own, so that they may run side by side.
std::string share_of_this_test() {
  return "test-" + std::to_string(::getpid()) + "-" +
         testing::UnitTest::GetInstance()->current_test_info()->name();
}

std::shared_ptr<Store> open_share(const std::string& name, std::int64_t limit = 64 * kMiB,
                                  int regrow_after_ms = 0) {
  return make_ram_store({.byte_limit = limit,
                         .budget = MemoryBudget::make({.byte_limit = 2 * limit}),
                         .regrow_after_ms = regrow_after_ms,
                         .share_name = name,
                         .share = CacheShare::Machine});
}

/// Memory that processes wait at and talk through.
template <class T>
T* common() {
  void* at = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return new (at) T{};
}

TEST(SharedRam, ServesWhatAnotherProcessPut) {
  const std::string name = share_of_this_test();
  const auto store = open_share(name);
  ASSERT_EQ(store->stats().last_error, "") << "sharing does not work on this machine";
  for (std::uint64_t i = 0; i < 50; ++i) store->put(key_of(i), value_of(i, 5000), 1);
  EXPECT_EQ(in_child([&] {
              const auto other = open_share(name);
              Blob blob;
              for (std::uint64_t i = 0; i < 50; ++i)
                if (!other->get(key_of(i), blob) || !same(blob.bytes, value_of(i, 5000))) return 1;
              if (other->put(key_of(3), value_of(3, 5000), 1) != PutResult::AlreadyThere) return 2;
              return other->put(key_of(99), value_of(99, 700), 1) == PutResult::Stored ? 0 : 3;
            }),
            "exit 0");
  Blob blob;
  ASSERT_TRUE(store->get(key_of(99), blob));
  EXPECT_TRUE(same(blob.bytes, value_of(99, 700)));
  EXPECT_EQ(store->stats().entries, 51);
}

TEST(SharedRam, HoldsOneByteLimitForAllProcesses) {
  const std::string name = share_of_this_test();
  const auto store = open_share(name, 8 * kMiB);
  std::vector<pid_t> children;
  for (std::uint64_t child = 0; child < 3; ++child)
    children.push_back(start_child([&, child] {
      const auto other = open_share(name, 8 * kMiB);
      int stored = 0;
      for (std::uint64_t i = 0; i < 1000; ++i)
        stored += other->put(key_of(child * 1000 + i), value_of(i, 5000), 1) == PutResult::Stored;
      return other->stats().rejected > 0 && stored < 1000 ? 0 : 1;
    }));
  for (const pid_t child : children) EXPECT_EQ(wait_child(child), "exit 0");
  EXPECT_LE(store->stats().bytes, 8 * kMiB);
  EXPECT_GT(store->stats().bytes, 7 * kMiB);
}

TEST(SharedRam, GivesTheMemoryOfAnOutgrownTableBack) {
  const auto store = open_share(share_of_this_test());
  ASSERT_EQ(store->stats().last_error, "");
  constexpr std::uint64_t kMany = 20000;
  for (std::uint64_t i = 0; i < kMany; ++i)
    ASSERT_EQ(store->put(key_of(i), value_of(i, 8), 1), PutResult::Stored);
  // 64 bytes a value, its slot in a table of 32768, and what chunks have not used yet.
  EXPECT_LT(store->stats().bytes, static_cast<std::int64_t>(64 * kMany + 64 * 32768) + 2 * kMiB);
  Blob blob;
  for (std::uint64_t i = 0; i < kMany; ++i) ASSERT_TRUE(store->get(key_of(i), blob)) << i;
}

TEST(SharedRam, MapsNoMoreThanTheProcessMayHold) {
  const std::string name = share_of_this_test();
  const auto store = open_share(name, 32 * kMiB);
  for (std::uint64_t i = 0; i < 1000; ++i) store->put(key_of(i), value_of(i, 20000), 1);
  EXPECT_EQ(in_child([&] {
              const auto budget = MemoryBudget::make({.byte_limit = 6 * kMiB});
              const auto other = make_ram_store({.budget = budget, .share_name = name});
              Blob blob;
              int held = 0;
              for (std::uint64_t i = 0; i < 1000; ++i) held += other->get(key_of(i), blob) ? 1 : 0;
              if (budget->reserved() > 6 * kMiB) return 1;
              return held > 100 && held < 400 ? 0 : 2;
            }),
            "exit 0");
}

TEST(SharedRam, GivesMemoryBackForAllProcesses) {
  const std::string name = share_of_this_test();
  const auto store = open_share(name, 32 * kMiB, 100000);
  for (std::uint64_t i = 0; i < 1000; ++i) store->put(key_of(i), value_of(i, 20000), 1);
  const std::int64_t before = store->stats().bytes;
  std::atomic<int>& stage = *common<std::atomic<int>>();
  const pid_t child = start_child([&] {
    const auto other = open_share(name, 32 * kMiB, 100000);
    Blob blob;
    for (std::uint64_t i = 0; i < 1000; ++i)
      if (!other->get(key_of(i), blob)) return 1;
    stage = 1;
    while (stage == 1) other->get(key_of(5), blob);  // a process that goes on training
    if (other->put(key_of(5000), value_of(1, 10), 1) != PutResult::Full) return 2;  // no calm yet
    return blob.bytes.empty() ? 3 : 0;
  });
  const auto start = std::chrono::steady_clock::now();
  while (stage == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << child;
  }
  EXPECT_GE(store->release(8 * kMiB), 8 * kMiB);
  EXPECT_LE(store->stats().bytes, before - 8 * kMiB) << "the machine has it back";
  stage = 2;
  EXPECT_EQ(wait_child(child), "exit 0");
  Blob blob;
  for (std::uint64_t i = 0; i < 1000; ++i)
    if (store->get(key_of(i), blob)) {
      ASSERT_TRUE(same(blob.bytes, value_of(i, 20000)));
    }
  EXPECT_GT(store->stats().entries, 0);
}

TEST(SharedRam, KeepsAViewOfWhatWasGivenBack) {
  const auto store = open_share(share_of_this_test(), 8 * kMiB);
  for (std::uint64_t i = 0; i < 100; ++i) store->put(key_of(i), value_of(i, 20000), 1);
  Blob blob;
  ASSERT_TRUE(store->get(key_of(3), blob));
  store->release(8 * kMiB);
  EXPECT_EQ(store->stats().entries, 0);
  for (std::uint64_t i = 200; i < 400; ++i) store->put(key_of(i), value_of(i, 20000), 1);
  EXPECT_TRUE(same(blob.bytes, value_of(3, 20000))) << "the memory was used again under a view";
}

TEST(SharedRam, FallsBackToItsOwnMemoryAndSaysWhy) {
  const std::string name = share_of_this_test();
  EXPECT_EQ(in_child([&] {
              const rlimit limit{1 << 30, 1 << 30};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              const auto store = open_share(name);
              if (store->stats().last_error.find("not shared") == std::string::npos) return 1;
              store->put(key_of(1), value_of(1, 100), 1);
              Blob blob;
              return store->get(key_of(1), blob) ? 0 : 2;
            }),
            "exit 0");
}

std::int64_t own_proportional_bytes() {
  std::ifstream in("/proc/self/smaps_rollup");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("Pss:")) return std::stoll(line.substr(4)) * 1024;
  return 0;
}

TEST(SharedRam, CostsFourProcessesLittleMoreThanOne) {
  struct Common {
    std::atomic<int> ready{0};
    std::atomic<int> go{0};
    std::atomic<std::int64_t> bytes[4]{};
    std::atomic<int> measured{0};
  };
  constexpr std::uint64_t kValues = 240;
  constexpr std::size_t kBytes = 1 << 20;
  std::int64_t totals[2] = {};
  for (const int processes : {1, 4}) {
    const std::string name = share_of_this_test() + std::to_string(processes);
    Common& c = *common<Common>();
    std::vector<pid_t> children;
    for (int p = 0; p < processes; ++p)
      children.push_back(start_child([&, p] {
        const auto store = open_share(name, 400 * kMiB);
        if (!store->stats().last_error.empty()) return 3;
        // Each in its own order, so that all of them fill.
        std::vector<std::uint64_t> order(kValues);
        std::iota(order.begin(), order.end(), 0U);
        std::shuffle(order.begin(), order.end(), std::mt19937_64(static_cast<unsigned>(p)));
        Blob blob;
        for (int epoch = 0; epoch < 2; ++epoch) {
          for (const std::uint64_t i : order) {
            if (store->get(key_of(i), blob)) {
              if (blob.bytes.size() != kBytes) return 1;
            } else if (epoch == 0) {
              store->put(key_of(i), value_of(i, kBytes), 1);
            } else {
              return 2;
            }
          }
          ++c.ready;
          while (c.ready < processes * (epoch + 1)) std::this_thread::yield();
        }
        c.bytes[p] = own_proportional_bytes();
        ++c.measured;
        while (c.measured < processes) std::this_thread::yield();
        return 0;
      }));
    for (const pid_t child : children) ASSERT_EQ(wait_child(child), "exit 0");
    for (const auto& bytes : c.bytes) totals[processes == 4] += bytes;
  }
  std::printf("proportional set size: one process %.1f MiB, four %.1f MiB, ratio %.3f\n",
              static_cast<double>(totals[0]) / kMiB, static_cast<double>(totals[1]) / kMiB,
              static_cast<double>(totals[1]) / static_cast<double>(totals[0]));
  EXPECT_LE(static_cast<double>(totals[1]), 1.15 * static_cast<double>(totals[0]));
}

TEST(SharedRam, GoesOnWhenProcessesAreKilledWhileFilling) {
  const std::string name = share_of_this_test();
  const auto kills = static_cast<int>(number_of("BRIM_TEST_KILLS", 40));
  constexpr std::uint64_t kValues = 4000;
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 generator(seed);
  const auto work = [&](std::uint64_t child_seed, int steps) {
    const auto store = open_share(name, 24 * kMiB);
    if (!store->stats().last_error.empty()) return 4;
    std::mt19937_64 random(child_seed);
    Blob blob;
    for (int step = 0; step != steps; ++step) {
      const std::uint64_t i = random() % kValues;
      if (store->get(key_of(i), blob)) {
        if (!same(blob.bytes, value_of(i, size_of(i)))) return 1;
      } else {
        store->put(key_of(i), value_of(i, size_of(i)), 1);
      }
      if (random() % 2000 == 0) store->release(2 * kMiB);
    }
    return store->stats().damaged == 0 ? 0 : 2;
  };
  // One process lives on through all of it.
  const auto survivor = open_share(name, 24 * kMiB);
  ASSERT_EQ(survivor->stats().last_error, "");
  for (int round = 0; round < (kills + 1) / 2; ++round) {
    std::vector<pid_t> children;
    for (int writer = 0; writer < 2; ++writer)
      children.push_back(start_child([&, s = generator()] { return work(s, -1); }));
    for (const pid_t child : children) {
      std::this_thread::sleep_for(std::chrono::microseconds(500 + generator() % 30000));
      ::kill(child, SIGKILL);
    }
    for (const pid_t child : children) ASSERT_EQ(wait_child(child), "signal 9");
    const auto start = std::chrono::steady_clock::now();
    Blob blob;
    std::int64_t held = 0;
    for (std::uint64_t i = 0; i < kValues; ++i) {
      if (!survivor->get(key_of(i), blob)) continue;
      ++held;
      ASSERT_TRUE(same(blob.bytes, value_of(i, size_of(i)))) << "wrong bytes of value " << i;
    }
    ASSERT_EQ(survivor->stats().damaged, 0);
    ASSERT_EQ(survivor->stats().entries, held);
    ASSERT_LE(survivor->stats().bytes, 24 * kMiB);
    ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  }
  EXPECT_EQ(in_child([&] { return work(7, 20000); }), "exit 0") << "a newcomer goes on";
}

TEST(SharedRam, LeavesNothingOnceAllProcessesWereKilled) {
  const std::string name = share_of_this_test();
  std::vector<pid_t> children;
  for (int p = 0; p < 3; ++p)
    children.push_back(start_child([&] {
      const auto store = open_share(name);
      for (std::uint64_t i = 0;; ++i) store->put(key_of(i % 500), value_of(i % 500, 5000), 1);
      return 0;
    }));
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  for (const pid_t child : children) ::kill(child, SIGKILL);
  for (const pid_t child : children) EXPECT_EQ(wait_child(child), "signal 9");
  EXPECT_TRUE(is_registered(name)) << "this test watches the wrong place";
  const auto next = open_share(name + "-other");
  EXPECT_FALSE(is_registered(name)) << "the next start clears up";
  EXPECT_TRUE(is_registered(name + "-other"));
  EXPECT_EQ(open_share(name)->stats().entries, 0) << "memory outlived every process";
}

TEST(SharedRam, LeavesNothingAfterTheLastUser) {
  const std::string name = share_of_this_test();
  {
    auto one = open_share(name);
    const auto two = open_share(name);
    one.reset();
    EXPECT_TRUE(is_registered(name)) << "it has a user left";
  }
  EXPECT_FALSE(is_registered(name));
}

TEST(SharedRam, IsOutOfBoundsForAForkedChild) {
  const auto store = open_share(share_of_this_test());
  store->put(key_of(1), value_of(1, 100), 1);
  store->put(key_of(2), value_of(2, 100), 1);
  EXPECT_EQ(in_child([&] {
              return store->put(key_of(3), value_of(3, 100), 1) == PutResult::Failed ? 0 : 2;
            }),
            "exit 0");
  Blob blob;
  EXPECT_TRUE(store->get(key_of(2), blob));
  EXPECT_EQ(store->put(key_of(3), value_of(3, 100), 1), PutResult::Stored);
}

}  // namespace
}  // namespace brim::test
