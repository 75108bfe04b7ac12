#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace brim::detail {

/// Bump memory for one image at a time. After the first images `take` allocates nothing: what
/// several blocks held is held by one from then on. Keeps at most kRetainedBytes between images.
class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kRetainedBytes = std::size_t{4} << 20;

  /// Bytes that one image may take; 0: no limit.
  void set_limit(std::size_t bytes) { limit_ = bytes; }
  /// 64-byte aligned, uninitialised; null where the limit or the memory ends.
  void* take(std::size_t bytes) noexcept;
  /// Everything taken becomes invalid.
  void reset() noexcept;
  std::size_t used() const { return used_; }

 private:
  struct Block {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
  };
  bool grow(std::size_t bytes) noexcept;

  std::vector<Block> blocks_;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  std::size_t used_ = 0;
  std::size_t limit_ = 0;
};

}  // namespace brim::detail
