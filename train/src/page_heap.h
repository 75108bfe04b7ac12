#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace brim::detail {

/// A heap over one reserved stretch of address space: two-level segregated fit (Masmano et al.
/// 2004) with immediate coalescing, so allocation and release are O(1) and neighbours always merge.
/// Memory is committed and given back to the system in chunks of 2 MiB. Not thread-safe.
class PageHeap {
 public:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kChunk = std::size_t{2} << 20;

  /// Huge: a chunk costs one fault instead of 512. Small: for heaps that are hardly touched.
  enum class Pages : std::uint8_t { Huge, Small };

  /// Reserves `virtual_bytes` of address space, or what half, quarter, ... of it the process may.
  /// Throws std::bad_alloc when not even 16 MiB can be had.
  explicit PageHeap(std::size_t virtual_bytes, Pages pages = Pages::Huge);
  ~PageHeap();
  PageHeap(const PageHeap&) = delete;
  PageHeap& operator=(const PageHeap&) = delete;

  /// What an allocation lacked: chunks that a caller's limit refuses, or the system.
  enum class Lack : std::uint8_t { Nothing, Limit, System, AddressSpace };

  /// `bytes` aligned to 64, or null with `lack()` set. Commits at most up to `commit_limit` bytes
  /// in all (free chunks elsewhere are given back first); `missing()` says by how much it failed.
  void* allocate(std::size_t bytes, std::size_t commit_limit);
  void free(void* pointer);
  bool owns(const void* pointer) const;

  /// Gives whole free chunks back to the system, at most `bytes`; returns what was given.
  std::size_t release(std::size_t bytes = SIZE_MAX);

  std::size_t live_bytes() const { return live_bytes_; }
  std::size_t committed_bytes() const { return committed_chunks_ * kChunk; }
  std::size_t live_blocks() const { return live_blocks_; }
  Lack lack() const { return lack_; }
  std::size_t missing() const { return missing_; }
  /// Size an allocation of `bytes` takes, header included.
  static std::size_t block_bytes(std::size_t bytes);
  /// Walks all blocks; false when sizes, links or counters disagree (for tests).
  bool consistent() const;

 private:
  struct Block;
  static constexpr int kSecondBits = 5;
  static constexpr int kSecond = 1 << kSecondBits;
  static constexpr int kFirst = 48;
  struct Bin {
    int first, second;
  };

  void unmap();
  static Bin bin_of(std::size_t size);
  Block* find(std::size_t size);
  void insert(Block* block);
  void remove(Block* block);
  Block* next(const Block* block) const;
  bool commit(std::uintptr_t begin, std::uintptr_t end, std::size_t limit);
  std::size_t uncommitted(std::size_t first, std::size_t last) const;
  std::size_t release_block(Block* block, std::size_t bytes);

  std::uintptr_t mapping_ = 0, base_ = 0, end_ = 0;
  std::size_t mapping_bytes_ = 0;
  std::vector<bool> committed_;
  std::size_t committed_chunks_ = 0, live_bytes_ = 0, live_blocks_ = 0, missing_ = 0;
  Lack lack_ = Lack::Nothing;
  std::uint64_t first_map_ = 0;
  std::array<std::uint32_t, kFirst> second_map_{};
  std::array<std::array<Block*, kSecond>, kFirst> bins_{};
};

}  // namespace brim::detail
