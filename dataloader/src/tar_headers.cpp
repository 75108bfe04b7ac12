#include "tar_headers.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "brim/cache/error.h"

namespace brim::detail {
namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kMostText = 1u << 20;  ///< of an extended header

/// Fields of a ustar header block: offset, length.
struct Field {
  std::size_t at, size;
};
constexpr Field kName{0, 100}, kSize{124, 12}, kChecksum{148, 8}, kMagic{257, 6}, kPrefix{345, 155};
constexpr std::size_t kType = 156;

std::string_view text_of(const std::uint8_t* block, Field field) {
  const auto* begin = reinterpret_cast<const char*>(block) + field.at;
  return {begin, static_cast<std::size_t>(std::find(begin, begin + field.size, '\0') - begin)};
}

/// Octal text, or base 256 where the first bit is set (GNU). Nothing if it is neither.
std::optional<std::uint64_t> number_of(const std::uint8_t* block, Field field) {
  const std::uint8_t* p = block + field.at;
  std::uint64_t value = 0;
  if ((p[0] & 0x80) != 0) {
    for (std::size_t i = 0; i < field.size; ++i) {
      const std::uint8_t byte = i == 0 ? p[0] & 0x7F : p[i];
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | byte;
    }
    return value;
  }
  std::size_t i = 0;
  while (i < field.size && p[i] == ' ') ++i;
  for (; i < field.size && p[i] != '\0' && p[i] != ' '; ++i) {
    if (p[i] < '0' || p[i] > '7') return std::nullopt;
    value = value * 8 + (p[i] - '0');
  }
  return value;
}

/// Sum of the block's bytes with the checksum field taken for spaces; some writers summed signed.
bool checksum_holds(const std::uint8_t* block) {
  const auto stored = number_of(block, kChecksum);
  std::int64_t plain = 0, with_sign = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const bool field = i >= kChecksum.at && i < kChecksum.at + kChecksum.size;
    const std::uint8_t byte = field ? ' ' : block[i];
    plain += byte;
    with_sign += static_cast<std::int8_t>(byte);
  }
  return stored && (static_cast<std::int64_t>(*stored) == plain ||
                    static_cast<std::int64_t>(*stored) == with_sign);
}

bool is_compressed(const std::uint8_t* b) {
  return (b[0] == 0x1F && b[1] == 0x8B) || std::memcmp(b, "BZh", 3) == 0 ||
         std::memcmp(b, "\xFD\x37zXZ", 5) == 0 || std::memcmp(b, "\x28\xB5\x2F\xFD", 4) == 0;
}

}  // namespace

void TarWalk::fail(const std::string& message, const std::string& hint) const {
  throw Error(message + " (at byte " + std::to_string(at_) + ")", {.file = file_}, hint);
}

std::string TarWalk::read_text(std::uint64_t offset, std::uint64_t size) const {
  if (size > kMostText) fail("extended header of " + std::to_string(size) + " bytes");
  std::string text(size, '\0');
  if (!read_at_(offset, text.data(), text.size())) fail("archive is cut short");
  return text;
}

/// Records "<length> <key>=<value>\n"; `path` and `size` matter here.
void TarWalk::read_pax(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty() && rest[0] != '\0') {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<std::size_t>(end - rest.data());
    if (error != std::errc() || length <= digits + 1 || length > rest.size()) {
      fail("broken extended header");
    }
    std::string_view record = rest.substr(digits + 1, length - digits - 1);
    rest.remove_prefix(length);
    if (record.ends_with('\n')) record.remove_suffix(1);
    if (record.starts_with("path=")) long_name_ = record.substr(5);
    if (record.starts_with("size=")) {
      std::uint64_t size = 0;
      record.remove_prefix(5);
      const auto parsed = std::from_chars(record.data(), record.data() + record.size(), size);
      if (parsed.ec != std::errc()) fail("broken extended header");
      long_size_ = size;
    }
  }
}

std::optional<TarMember> TarWalk::next() {
  std::uint8_t block[kBlock];
  while (true) {
    // Writers that leave out the two closing zero blocks end right after the last member.
    if (at_ == length_ && at_ > 0) return std::nullopt;
    if (length_ - at_ < kBlock || !read_at_(at_, block, kBlock)) fail("archive is cut short");
    if (std::all_of(block, block + kBlock, [](std::uint8_t byte) { return byte == 0; })) {
      closed_ = true;
      return std::nullopt;
    }
    if (!checksum_holds(block)) {
      if (at_ == 0 && is_compressed(block)) {
        fail("is compressed, and so cannot be read in place", "unpack it to a plain .tar");
      }
      fail(at_ == 0 ? "not a tar archive" : "damaged: the header's checksum is wrong");
    }
    const auto stored = number_of(block, kSize);
    if (!stored) fail("damaged: the size is no number");
    const char type = static_cast<char>(block[kType]);
    const bool extended = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    const std::uint64_t size = extended ? *stored : long_size_.value_or(*stored);
    const std::uint64_t begin = at_ + kBlock;
    if (size > length_ - begin)
      fail("archive is cut short within '" + std::string(text_of(block, kName)) + "'");
    if (type == 'x') read_pax(read_text(begin, size));
    if (type == 'L') long_name_ = read_text(begin, size).c_str();  // ends at its zero byte
    const std::uint64_t end = begin + (size + kBlock - 1) / kBlock * kBlock;
    if (end > length_) fail("archive is cut short");
    at_ = end;
    if (extended) continue;
    TarMember member{std::exchange(long_name_, {}), begin, size};
    long_size_.reset();
    if (type != '0' && type != '\0' && type != '7') continue;
    if (member.name.empty()) {
      const bool ustar = std::memcmp(block + kMagic.at, "ustar\0", 6) == 0;
      const std::string_view prefix = ustar ? text_of(block, kPrefix) : std::string_view();
      member.name =
          std::string(prefix) + (prefix.empty() ? "" : "/") + std::string(text_of(block, kName));
    }
    return member;
  }
}

}  // namespace brim::detail
