#include "support/allocations.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define BRIM_TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BRIM_TEST_SANITIZED 1
#endif

namespace {
std::atomic<std::int64_t> count{0}, live{0}, peak{0};

[[maybe_unused]] void* took(void* memory) {
  if (memory == nullptr) return memory;
  count.fetch_add(1, std::memory_order_relaxed);
  const auto bytes = static_cast<std::int64_t>(malloc_usable_size(memory));
  const std::int64_t now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::int64_t highest = peak.load(std::memory_order_relaxed);
  while (now > highest && !peak.compare_exchange_weak(highest, now)) {
  }
  return memory;
}

[[maybe_unused]] void gave_back(void* memory) {
  if (memory == nullptr) return;
  live.fetch_sub(static_cast<std::int64_t>(malloc_usable_size(memory)), std::memory_order_relaxed);
}
}  // namespace

#if !defined(BRIM_TEST_SANITIZED) && defined(__GLIBC__)
// glibc lets a program replace malloc, and keeps its own under these names.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t bytes) {
  return took(__libc_malloc(bytes));
}
void* calloc(std::size_t items, std::size_t bytes) {
  return took(__libc_calloc(items, bytes));
}
void* realloc(void* memory, std::size_t bytes) {
  gave_back(memory);
  return took(__libc_realloc(memory, bytes));
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  return took(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  return took(__libc_memalign(alignment, bytes));
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  *memory = took(__libc_memalign(alignment, bytes));
  return *memory == nullptr ? ENOMEM : 0;
}
void free(void* memory) {
  gave_back(memory);
  __libc_free(memory);
}
}
#define BRIM_TEST_COUNTS true
#else
#define BRIM_TEST_COUNTS false
#endif

namespace brim::test {

bool counts_allocations() {
  return BRIM_TEST_COUNTS;
}

void reset_allocations() {
  count = 0;
  live = 0;
  peak = 0;
}

Allocations allocations() {
  return {count.load(), live.load(), peak.load()};
}

}  // namespace brim::test
