#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace brim::detail {

/// A regular file within a tar archive.
struct TarMember {
  std::string name;
  std::uint64_t offset = 0;  ///< of its bytes
  std::uint64_t size = 0;
};

/// Walks the headers of an uncompressed tar archive (POSIX ustar and pax, GNU long names and
/// base-256 sizes) without reading the members' bytes.
class TarWalk {
 public:
  /// Fills `to` with `count` bytes from `offset`; false if the archive ends before.
  using ReadAt = std::function<bool(std::uint64_t offset, void* to, std::size_t count)>;

  TarWalk(ReadAt read_at, std::uint64_t length, std::string file)
      : read_at_(std::move(read_at)), length_(length), file_(std::move(file)) {}
  /// The next regular file; nothing at the end. Throws Error where the archive is damaged, cut
  /// short or compressed.
  std::optional<TarMember> next();
  /// True once the mark that ends an archive was seen; without it members may have been cut off.
  bool closed() const { return closed_; }

 private:
  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const;
  std::string read_text(std::uint64_t offset, std::uint64_t size) const;
  void read_pax(const std::string& text);

  ReadAt read_at_;
  std::uint64_t length_;
  std::string file_;
  std::uint64_t at_ = 0;
  bool closed_ = false;
  std::string long_name_{};  ///< for the next member
  std::optional<std::uint64_t> long_size_{};
};

}  // namespace brim::detail
