#include "brim/cache/process_memory.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace brim
