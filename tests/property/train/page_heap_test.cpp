#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "../../../train/src/page_heap.h"

namespace {
using brim::detail::PageHeap;

struct Held {
  unsigned char* data;
  std::size_t size;
  unsigned char mark;
};

bool intact(const Held& held) {
  for (std::size_t i = 0; i < held.size; i += 1021) {
    if (held.data[i] != held.mark) return false;
  }
  return held.data[held.size - 1] == held.mark;
}

/// Random allocations, frees and releases: blocks never overlap, the books always balance, the
/// limit is never passed, and an empty heap is one block again.
TEST(PageHeap, KeepsItsBooksUnderRandomUse) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    PageHeap heap(std::size_t{256} << 20);
    const std::size_t limit = (8 + random() % 64) << 20;
    std::vector<Held> held;
    for (int round = 0; round < 1500; ++round) {
      const std::uint64_t what = random() % 100;
      if (what < 55) {
        const std::size_t size = 1 + random() % (std::size_t{1} << (4 + random() % 19));
        auto* data = static_cast<unsigned char*>(heap.allocate(size, limit));
        if (data != nullptr) {
          ASSERT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u);
          const auto mark = static_cast<unsigned char>(random());
          std::memset(data, mark, size);
          held.push_back({data, size, mark});
        } else {
          ASSERT_NE(heap.lack(), PageHeap::Lack::Nothing);
          ASSERT_GT(heap.missing(), 0u);
        }
      } else if (what < 97 && !held.empty()) {
        const std::size_t pick = random() % held.size();
        ASSERT_TRUE(intact(held[pick]));
        heap.free(held[pick].data);
        held[pick] = held.back();
        held.pop_back();
      } else {
        heap.release(random() % 2 == 0 ? SIZE_MAX : random() % (8 << 20));
      }
      ASSERT_LE(heap.committed_bytes(), limit);
      if (round % 50 == 0) {
        ASSERT_TRUE(heap.consistent());
      }
    }
    for (const Held& one : held) {
      ASSERT_TRUE(intact(one));
      heap.free(one.data);
    }
    ASSERT_TRUE(heap.consistent());
    ASSERT_EQ(heap.live_bytes(), 0u);
    heap.release();
    ASSERT_LE(heap.committed_bytes(), PageHeap::kChunk);
    ASSERT_NE(heap.allocate(std::size_t{200} << 20, SIZE_MAX), nullptr);
  }
}
}  // namespace
