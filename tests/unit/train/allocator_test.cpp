#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include "brim/dataloader/torch/libtorch.h"

#include <cstring>
#include <random>
#include <thread>

#include "brim/train/compat.h"
#include "brim/train/cpu_allocator.h"

namespace {
using brim::AllocatorStatistics;

/// The pool is one per process: every test runs with it and restores the limit.
class CpuAllocator : public ::testing::Test {
 protected:
  void SetUp() override { brim::install_cpu_allocator(); }
  void TearDown() override { brim::set_allocator_limit(0); }
};

torch::Tensor bytes(std::int64_t n) {
  return torch::empty({n}, torch::kUInt8);
}

TEST_F(CpuAllocator, CountsLiveBytesExactly) {
  const AllocatorStatistics before = brim::allocator_statistics();
  {
    const torch::Tensor a = bytes(1000);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data_ptr()) % 64, 0u);
    EXPECT_EQ(brim::allocator_statistics().live - before.live, 1024 + 64);
    const torch::Tensor b = bytes(1 << 20);
    EXPECT_EQ(brim::allocator_statistics().live - before.live, 1024 + 64 + (1 << 20) + 64);
  }
  EXPECT_EQ(brim::allocator_statistics().live, before.live);
}

TEST_F(CpuAllocator, FreesTensorsMadeBeforeItWasInstalled) {
  // libtorch made tensors of its own before; a default-allocated block goes through the raw path.
  void* foreign = c10::GetDefaultCPUAllocator()->raw_allocate(4096);
  c10::GetCPUAllocator()->raw_deallocate(foreign);
}

TEST_F(CpuAllocator, ReusesFreedMemoryWithoutAskingTheSystem) {
  for (int step = 0; step < 3; ++step) {
    std::vector<torch::Tensor> tensors;
    for (int i = 1; i <= 20; ++i) tensors.push_back(bytes(i * 300'000));
  }
  const std::int64_t reserved = brim::allocator_statistics().reserved;
  for (int step = 0; step < 3; ++step) {
    std::vector<torch::Tensor> tensors;
    for (int i = 1; i <= 20; ++i) tensors.push_back(bytes(i * 300'000));
  }
  EXPECT_EQ(brim::allocator_statistics().reserved, reserved);
}

TEST_F(CpuAllocator, ReleaseUnmapsWhatIsFree) {
  { const torch::Tensor large = torch::ones({16 << 20}, torch::kUInt8); }
  const AllocatorStatistics before = brim::allocator_statistics();
  const std::int64_t given = brim::release_cpu_memory();
  const AllocatorStatistics after = brim::allocator_statistics();
  EXPECT_GE(given, 14 << 20);
  EXPECT_EQ(before.reserved - after.reserved, given);
  const torch::Tensor again = torch::ones({16 << 20}, torch::kUInt8);
  EXPECT_EQ(again.sum().item<std::int64_t>(), 16 << 20);
}

TEST_F(CpuAllocator, ThrowsOutOfMemoryBeyondTheLimitAndGoesOn) {
  brim::release_cpu_memory();
  const std::int64_t limit = brim::allocator_statistics().reserved + (32 << 20);
  brim::set_allocator_limit(limit);
  const torch::Tensor fits = bytes(16 << 20);
  try {
    bytes(64 << 20);
    FAIL() << "no error";
  } catch (const std::exception& error) {
    EXPECT_TRUE(brim::is_out_of_memory(error));
    EXPECT_NE(std::string(error.what()).find("cannot allocate 64"), std::string::npos)
        << error.what();
  }
  EXPECT_LE(brim::allocator_statistics().reserved, limit);
  bytes(1 << 20);
}

TEST_F(CpuAllocator, GivesFreeChunksBackBeforeItRefuses) {
  brim::release_cpu_memory();
  const std::int64_t base = brim::allocator_statistics().reserved;
  brim::set_allocator_limit(base + (64 << 20));
  torch::Tensor keep;
  {
    const torch::Tensor first = bytes(30 << 20);
    keep = bytes(1 << 20);
    const torch::Tensor second = bytes(20 << 20);
  }
  // Neither hole holds 45 MiB; together with what is left there is room once they are unmapped.
  EXPECT_NO_THROW(bytes(45 << 20));
  EXPECT_LE(brim::allocator_statistics().reserved, base + (64 << 20));
}

TEST_F(CpuAllocator, AsksTheBudgetsHoldersBeforeItFails) {
  brim::release_cpu_memory();
  const std::int64_t base = brim::allocator_statistics().reserved;
  const auto budget = brim::MemoryBudget::make({.byte_limit = base + (64 << 20)});
  brim::install_cpu_allocator({.budget = budget});
  brim::Reservation cache = budget->reserve("cache", 48 << 20);
  std::int64_t asked = 0;
  const auto handle = budget->on_pressure(0, "cache", [&](std::int64_t n) {
    asked += n;
    const std::int64_t held = cache.bytes();
    cache.release();
    return held;
  });
  EXPECT_NO_THROW(bytes(40 << 20));
  EXPECT_GT(asked, 0);
  EXPECT_THROW(bytes(80 << 20), c10::OutOfMemoryError);
  brim::install_cpu_allocator();
}

TEST_F(CpuAllocator, KeepsPeaksPerPhase) {
  const std::int64_t base = brim::allocator_statistics().live;
  {
    const brim::AllocatorPhase outer("test outer");
    const torch::Tensor kept = bytes(1 << 20);
    {
      const brim::AllocatorPhase inner("test inner");
      bytes(4 << 20);
    }
    {
      const brim::AllocatorPhase small("test small");
      bytes(1 << 10);
    }
  }
  const auto phases = brim::allocator_phases();
  EXPECT_EQ(phases.at("test inner").live - base, (5 << 20) + 128);
  EXPECT_EQ(phases.at("test outer").live - base, (5 << 20) + 128);
  EXPECT_EQ(phases.at("test small").live - base, (1 << 20) + 1024 + 128);
}

TEST_F(CpuAllocator, ServesManyThreadsAtOnce) {
  const std::int64_t before = brim::allocator_statistics().live;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&wrong, t] {
      std::mt19937 random(t);
      std::vector<torch::Tensor> held(16);
      for (int i = 0; i < 2000; ++i) {
        torch::Tensor& slot = held[random() % held.size()];
        const auto value = static_cast<unsigned char>(t * 16 + 1);
        if (slot.defined()) {
          const auto* data = slot.data_ptr<std::uint8_t>();
          if (data[0] != value || data[slot.numel() - 1] != value) ++wrong;
        }
        slot = bytes(1 + random() % 20000);
        std::memset(slot.data_ptr(), value, static_cast<std::size_t>(slot.numel()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(brim::allocator_statistics().live, before);
}
}  // namespace
