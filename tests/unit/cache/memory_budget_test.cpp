#include "brim/cache/memory_budget.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "brim/cache/error.h"
#include "brim/cache/memory_monitor.h"
#include "support/child_process.h"
#include "support/test_data.h"

namespace brim {
namespace {

TEST(MemoryBudget, CountsWhatIsReservedUntilItIsGivenBack) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000});
  {
    Reservation a = budget->reserve("slots", 600);
    ASSERT_TRUE(a);
    EXPECT_EQ(budget->available(), 400);
    EXPECT_FALSE(budget->reserve("cache", 401));
    Reservation b = budget->reserve("cache", 400);
    ASSERT_TRUE(b);
    EXPECT_EQ(budget->holders().size(), 2U);
    EXPECT_EQ(budget->holders()[0].name, "slots");
    a.release();
    EXPECT_EQ(budget->reserved(), 400);
    Reservation moved = std::move(b);
    EXPECT_EQ(moved.bytes(), 400);
    moved = Reservation();
    EXPECT_EQ(budget->reserved(), 0);
  }
  EXPECT_TRUE(budget->holders().empty());
}

TEST(MemoryBudget, ResizesAReservationInPlace) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000});
  Reservation r = budget->reserve("scratch", 100);
  EXPECT_TRUE(r.resize(900));
  EXPECT_FALSE(r.resize(1001));
  EXPECT_EQ(r.bytes(), 900);
  EXPECT_TRUE(r.resize(50));
  EXPECT_EQ(budget->reserved(), 50);
  EXPECT_FALSE(Reservation().resize(10));
}

TEST(MemoryBudget, AsksHoldersBackInTheirOrderAndNoMoreThanNeeded) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000});
  Reservation cache = budget->reserve("cache", 500);
  Reservation scratch = budget->reserve("scratch", 500);
  std::string asked;
  const auto giver = [&](char name, Reservation& from) {
    return [&asked, &from, name](std::int64_t bytes) {
      asked += name;
      const std::int64_t given = std::min(bytes, from.bytes());
      from.resize(from.bytes() - given);
      return given;
    };
  };
  const auto late = budget->on_pressure(PressureOrder::kScratch, "scratch", giver('s', scratch));
  auto early = budget->on_pressure(PressureOrder::kCache, "cache", giver('c', cache));
  EXPECT_TRUE(budget->reserve("slots", 300));
  EXPECT_EQ(asked, "c");
  EXPECT_EQ(cache.bytes(), 200);
  EXPECT_TRUE(budget->reserve("slots", 600));
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_FALSE(budget->try_reserve("other", 1000)) << "try_reserve must ask nobody";
  EXPECT_FALSE(budget->reserve("slots", 1001)) << "more than the limit must ask nobody";
  early.reset();
  asked.clear();
  budget->ask_back(10);
  EXPECT_EQ(asked, "s") << "an unregistered holder was asked";
}

TEST(MemoryBudget, NamesLimitAndHoldersWhenItRefuses) {
  const auto budget = MemoryBudget::make({.byte_limit = 10 << 20});
  const Reservation r = budget->reserve("prefetch", 6 << 20);
  try {
    budget->reserve_or_throw("decode scratch", 5 << 20);
    FAIL() << "granted too much";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(),
              "decode scratch needs 5.0 MiB of memory, but 4.0 MiB of the 10.0 MiB limit (set by "
              "user) are left; held: prefetch 6.0 MiB");
    EXPECT_NE(error.hint().find("the smallest budget that works is 11 MiB"), std::string::npos);
  }
}

TEST(MemoryBudget, NeverPromisesMoreThanItsLimitToManyThreads) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000});
  std::atomic<std::int64_t> held{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 3000; ++i)
        if (const Reservation r = budget->reserve("thread", 300)) {
          if (held.fetch_add(300) + 300 > 1000) over = true;
          held.fetch_sub(300);
        }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(over);
  EXPECT_EQ(budget->reserved(), 0);
}

class MadeMachine {
 public:
  void available(int mebibytes) const {
    test::write_file(root() + "/proc/meminfo",
                     "MemAvailable: " + std::to_string(mebibytes * 1024) + " kB\n");
  }
  std::string root() const { return folder_.path().string(); }

 private:
  test::TempDir folder_;
};

TEST(MemoryBudget, PlansForAShareOfTheMachineAndFollowsIt) {
  MadeMachine machine;
  machine.available(1000);
  const auto budget = MemoryBudget::make({.fraction = 0.5, .root = machine.root()});
  EXPECT_EQ(budget->limit(), std::int64_t{500} << 20);
  machine.available(400);
  EXPECT_EQ(budget->refresh().decided_by, "MemAvailable");
  EXPECT_EQ(budget->limit(), std::int64_t{200} << 20);
  const auto explicit_limit =
      MemoryBudget::make({.byte_limit = 100 << 20, .fraction = 0.5, .root = machine.root()});
  EXPECT_EQ(explicit_limit->limit(), 100 << 20) << "an explicit limit is taken whole";
  EXPECT_EQ(explicit_limit->limits().decided_by, "user");
}

TEST(MemoryBudget, HoldsTheBaseOfTheProcess) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000, .base_bytes = 300});
  EXPECT_EQ(budget->available(), 700);
  EXPECT_EQ(budget->holders()[0].name, "process");
  const Reservation slots = budget->reserve("slots", 200);
  budget->set_base(450);
  EXPECT_EQ(budget->available(), 350);
  budget->set_base(100);
  EXPECT_EQ(budget->available(), 700);
  EXPECT_THROW(MemoryBudget::make({.byte_limit = -1}), Error);
  EXPECT_THROW(MemoryBudget::make({.fraction = 0}), Error);
}

TEST(MemoryMonitor, AsksBackBeforeTheLimitIsReached) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000});
  std::atomic<std::int64_t> resident{500};
  std::atomic<std::int64_t> asked{0};
  const auto handle = budget->on_pressure(0, "cache", [&](std::int64_t bytes) {
    asked += bytes;
    resident -= bytes;
    return bytes;
  });
  MemoryMonitor monitor(budget,
                        {.interval_ms = 3600000, .measure = [&] { return resident.load(); }});
  monitor.sample();
  EXPECT_EQ(asked, 0);
  resident = 970;
  monitor.sample();
  EXPECT_EQ(asked, 70) << "down to 90% of the limit";
  EXPECT_EQ(monitor.status().peak_resident, 970);
  EXPECT_EQ(monitor.status().times_asked, 1);
}

TEST(MemoryMonitor, TakesWhatIsGivenBackWhileItMeasuresForNoPartOfTheProgram) {
  const auto budget = MemoryBudget::make({.byte_limit = 1000});
  Reservation tensors = budget->reserve("tensors", 600);
  bool gives_back = false;
  MemoryMonitor monitor(budget, {.interval_ms = 3600000, .measure = [&] {
                                   if (gives_back) {  // grows and shrinks in one measuring
                                     EXPECT_TRUE(tensors.resize(640));
                                     tensors.resize(100);
                                   }
                                   return 650;
                                 }});
  monitor.sample();
  EXPECT_EQ(budget->reserved(), 650) << "50 that nobody reserved";
  gives_back = true;
  monitor.sample();
  EXPECT_EQ(budget->reserved(), 150);
  gives_back = false;
  monitor.sample();
  EXPECT_EQ(budget->reserved(), 650) << "this time it was there before and after";
}

TEST(MemoryMonitor, FollowsALimitThatShrinksWhileRunning) {
  MadeMachine machine;
  machine.available(1000);
  const auto budget =
      MemoryBudget::make({.fraction = 1.0, .base_bytes = 0, .root = machine.root()});
  Reservation cache = budget->reserve("cache", std::int64_t{800} << 20);
  ASSERT_TRUE(cache);
  const auto handle = budget->on_pressure(0, "cache", [&](std::int64_t bytes) {
    cache.resize(cache.bytes() - bytes);
    return bytes;
  });
  MemoryMonitor monitor(budget, {.interval_ms = 1, .reread_ms = 0, .measure = [] { return 0; }});
  machine.available(300);
  for (int i = 0; i < 2000 && budget->reserved() > std::int64_t{300} << 20; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_LE(budget->reserved(), std::int64_t{300} << 20);
}

TEST(MemoryMonitor, SeesThisProcess) {
  EXPECT_GT(own_private_bytes(), 0);
  EXPECT_LT(own_private_bytes(), std::int64_t{1} << 40);
}

TEST(MemoryMonitor, EndsWhereNoMoreFilesMayBeOpened) {
  EXPECT_EQ(test::in_child([] {
              const rlimit none{0, 0};
              if (::setrlimit(RLIMIT_NOFILE, &none) != 0) return 1;
              ::alarm(20);
              const MemoryMonitor monitor(MemoryBudget::make({.byte_limit = 1 << 30}));
              return 0;
            }),
            "exit 0");
}

TEST(MemoryMonitor, WatchesStallsWhereTheKernelLetsIt) {
  const auto budget = MemoryBudget::make({.byte_limit = 1 << 30});
  const MemoryMonitor blind(budget, {.stall_file = "/not/there"});
  EXPECT_FALSE(blind.status().watches_stalls);
  if (::access("/proc/pressure/memory", W_OK) != 0)
    GTEST_SKIP() << "pressure stall information may not be watched here";
  const MemoryMonitor monitor(budget, {.stall_file = "/proc/pressure/memory"});
  EXPECT_TRUE(monitor.status().watches_stalls);
}

}  // namespace
}  // namespace brim
