#include "brim/cache/process_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstdlib>
#include <memory>

#include "brim/cache/memory_budget.h"
#include "support/allocations.h"

namespace brim {
namespace {

TEST(ProcessMemory, GrowsWithWhatIsTouchedAndAgreesWithTheLimits) {
  if (!test::counts_allocations()) GTEST_SKIP() << "a sanitizer's shadow memory counts too";
  constexpr std::int64_t kBytes = 64 << 20;
  const std::int64_t before = resident_bytes();
  const std::unique_ptr<char[]> block(new char[kBytes]);
  for (std::int64_t i = 0; i < kBytes; i += 512) block[static_cast<std::size_t>(i)] = 1;
  const std::int64_t after = resident_bytes();
  EXPECT_GT(before, 0);
  EXPECT_NEAR(static_cast<double>(after - before), kBytes, 8 << 20);
  EXPECT_NEAR(static_cast<double>(after), static_cast<double>(read_memory_limits().own_resident),
              8 << 20);
}

TEST(ProcessMemory, CountsPrivateAddressSpaceWithoutTouchingIt) {
  constexpr std::int64_t kBytes = 64 << 20;
  const std::int64_t before = private_address_space();
  void* block = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  EXPECT_NEAR(static_cast<double>(private_address_space() - before), kBytes, 1 << 20);
  ::munmap(block, kBytes);
}

TEST(ProcessMemory, LeavesIdleAddressSpaceOutOfWhatIsUsed) {
  if (!test::counts_allocations()) GTEST_SKIP() << "a sanitizer's shadow memory does not fit";
  constexpr std::int64_t kBytes = 512 << 20;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_AS, &limit), 0);
  const auto room = [] {
    const MemoryLimits limits = read_memory_limits();
    for (const MemoryLimit& one : limits.all)
      if (one.source == "RLIMIT_AS") return one.limit;
    return std::int64_t{-1};
  };
  const rlimit narrow{rlim_t{64} << 30, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &narrow), 0);
  const std::int64_t before = room();
  void* block = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const std::int64_t counted = room();
  add_idle_address_space(kBytes);
  const std::int64_t after = room();
  add_idle_address_space(-kBytes);
  ::munmap(block, kBytes);
  ::setrlimit(RLIMIT_AS, &limit);
  EXPECT_NEAR(static_cast<double>(before - counted), kBytes, 8 << 20);
  EXPECT_NEAR(static_cast<double>(after), static_cast<double>(before), 8 << 20);
}

}  // namespace
}  // namespace brim
