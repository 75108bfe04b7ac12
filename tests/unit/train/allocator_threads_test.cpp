// Run under -fsanitize=thread as well; c10 is all of LibTorch that it needs.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "brim/train/cpu_allocator.h"

namespace {

/// Fills blocks of its own and finds them unchanged, `rounds` times.
void use_blocks(unsigned char mark, int rounds, std::atomic<int>& wrong) {
  std::mt19937 random(mark);
  struct Block {
    c10::DataPtr memory;
    std::size_t bytes = 0;
  };
  std::vector<Block> held(16);
  for (int i = 0; i < rounds; ++i) {
    Block& block = held[random() % held.size()];
    if (block.bytes > 0) {
      const auto* data = static_cast<const unsigned char*>(block.memory.get());
      if (data[0] != mark || data[block.bytes - 1] != mark) ++wrong;
    }
    const std::size_t bytes = 1 + random() % (i % 50 == 0 ? 5'000'000 : 20'000);
    block = {c10::GetCPUAllocator()->allocate(bytes), bytes};
    auto* data = static_cast<unsigned char*>(block.memory.get());
    data[0] = data[bytes - 1] = mark;
  }
}

TEST(AllocatorThreads, MayAllocateWhileOthersReleaseReadAndLimit) {
  brim::install_cpu_allocator();
  const std::int64_t before = brim::allocator_statistics().live;
  std::atomic<int> wrong{0};
  std::atomic<bool> done{false};
  std::thread keeper([&] {
    while (!done) {
      brim::release_cpu_memory();
      brim::set_allocator_limit(std::int64_t{8} << 30);
      brim::reset_allocator_peaks();
      const brim::AllocatorStatistics now = brim::allocator_statistics();
      if (now.live > now.reserved || now.peak_live < 0) ++wrong;
    }
  });
  std::vector<std::thread> users;
  for (unsigned char mark = 1; mark <= 4; ++mark)
    users.emplace_back([&wrong, mark] { use_blocks(mark, 3000, wrong); });
  for (std::thread& user : users) user.join();
  done = true;
  keeper.join();
  brim::set_allocator_limit(0);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(brim::allocator_statistics().live, before);
}

}  // namespace
