#include "lmdb_check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "lmdb_format.h"
#include "posix_file.h"

namespace brim::detail {
namespace {

// The data layout of LMDB 0.9 on 64-bit machines (its file format version 1).
constexpr std::uint32_t kMetaMagic = 0xBEEFC0DE;
constexpr std::uint64_t kNoPage = ~std::uint64_t{0};
constexpr std::uint16_t kBranch = 0x01, kLeaf = 0x02, kMeta = 0x08, kDirty = 0x10;
constexpr std::uint16_t kBigData = 0x01;
constexpr std::uint16_t kIntegerKey = 0x08;
constexpr std::size_t kHeader = 16, kNodeHeader = 8, kMostDepth = 32, kLongestKey = 511;

/// Every page below the last is in a tree or free; a few may be neither after odd commits.
constexpr std::uint64_t kMostUnaccounted = 16;

struct PageHeader {
  std::uint64_t number;
  std::uint16_t pad, flags, lower, upper;
};
struct Tree {
  std::uint32_t pad;
  std::uint16_t flags, depth;
  std::uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};
struct Meta {
  std::uint32_t magic, version;
  std::uint64_t address, map_size;
  Tree free, main;
  std::uint64_t last_page, transaction;
};
static_assert(sizeof(PageHeader) == kHeader && sizeof(Tree) == 48 && sizeof(Meta) == 136);

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Thrown inside the walk only.
struct Unsound {};

void require(bool condition) {
  if (!condition) throw Unsound{};
}

class Checker {
 public:
  explicit Checker(PosixFile file)
      : file_(std::move(file)),
        page_size_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))),
        file_pages_(file_.size() / page_size_) {}

  LmdbFileState run() {
    const Meta first = read_meta(0);
    const Meta second = read_meta(1);
    const Meta& meta = first.transaction > second.transaction ? first : second;
    last_page_ = meta.last_page;
    require(last_page_ < file_pages_ + kMostUnaccounted);
    used_.assign(last_page_ + 1, false);
    walk_tree(meta.main, [this](auto key, auto data) { keep_format(key, data); });
    free_list_ = true;
    walk_tree(meta.free, [this](auto, auto data) { check_free(data); });
    const auto unaccounted = std::count(used_.begin() + 2, used_.end(), false);
    require(static_cast<std::uint64_t>(unaccounted) <= kMostUnaccounted);
    if (meta.main.root == kNoPage) return LmdbFileState::Empty;
    require(format_.has_value());
    require(std::memcmp(format_->magic, kLmdbMagic, sizeof kLmdbMagic) == 0);
    if (format_->endian != kEndianTag || format_->version != kLmdbVersion)
      return LmdbFileState::OtherFormat;
    require(!has_strange_keys_);
    return LmdbFileState::Sound;
  }

 private:
  Meta read_meta(std::uint64_t number) {
    std::vector<std::byte> page = read_page(number);
    const auto header = load<PageHeader>(page.data());
    const Meta meta = load<Meta>(page.data() + kHeader);
    require(header.flags == kMeta && header.number == number);
    require(meta.magic == kMetaMagic && meta.version == 1);
    require(meta.free.pad == page_size_ && meta.free.flags == kIntegerKey);
    require(meta.main.pad == 0 && meta.main.flags == 0 && meta.address == 0);
    require(meta.last_page >= 1 && meta.last_page < (std::uint64_t{1} << 47) / page_size_);
    // Transaction n is written to page n % 2; a fresh file has 0 in both.
    require(meta.transaction == 0 || meta.transaction % 2 == number);
    require(meta.transaction < (std::uint64_t{1} << 62));
    return meta;
  }

  std::vector<std::byte> read_page(std::uint64_t number) const {
    std::vector<std::byte> page(page_size_);
    require(file_.read_at(number * page_size_, page));
    return page;
  }

  void mark(std::uint64_t first, std::uint64_t count) {
    require(first >= 2 && first <= last_page_ && count <= last_page_ - first + 1);
    for (std::uint64_t page = first; page < first + count; ++page) {
      require(!used_[page]);
      used_[page] = true;
    }
  }

  template <class Visit>
  void walk_tree(const Tree& tree, Visit&& visit) {
    if (tree.root == kNoPage) {
      require(tree.depth == 0);
      return;
    }
    require(tree.depth >= 1 && tree.depth <= kMostDepth);
    last_key_.clear();
    walk_page(tree.root, tree.depth, visit);
  }

  template <class Visit>
  void walk_page(std::uint64_t number, std::size_t depth, Visit& visit) {
    mark(number, 1);
    const std::vector<std::byte> page = read_page(number);
    const auto header = load<PageHeader>(page.data());
    const auto flags = static_cast<std::uint16_t>(header.flags & ~kDirty);
    require(header.number == number && flags == (depth == 1 ? kLeaf : kBranch));
    require(header.lower >= kHeader && header.lower <= header.upper && header.upper <= page_size_);
    require(header.lower % 2 == 0);
    const std::size_t keys = (header.lower - kHeader) / 2;
    require(keys >= (depth == 1 || free_list_ ? 1U : 2U));
    for (std::size_t i = 0; i < keys; ++i) {
      const auto at = load<std::uint16_t>(page.data() + kHeader + 2 * i);
      require(at >= header.upper && at % 2 == 0 && at + kNodeHeader <= page_size_);
      depth == 1 ? visit_leaf(page, at, visit) : visit_branch(page, at, depth, i > 0, visit);
    }
  }

  template <class Visit>
  void visit_branch(const std::vector<std::byte>& page, std::size_t at, std::size_t depth,
                    bool separates, Visit& visit) {
    const auto node = load<std::array<std::uint16_t, 4>>(page.data() + at);
    require(node[3] <= kLongestKey && at + kNodeHeader + node[3] <= page_size_);
    // A separator lies above every key before it and not above any after it.
    if (separates) advance({page.data() + at + kNodeHeader, node[3]}, true);
    walk_page(node[0] | std::uint64_t{node[1]} << 16 | std::uint64_t{node[2]} << 32, depth - 1,
              visit);
  }

  template <class Visit>
  void visit_leaf(const std::vector<std::byte>& page, std::size_t at, Visit& visit) {
    const auto node = load<std::array<std::uint16_t, 4>>(page.data() + at);
    const std::uint64_t size = node[0] | std::uint64_t{node[1]} << 16;
    const std::size_t data_at = at + kNodeHeader + node[3];
    require(node[3] >= 1 && node[3] <= kLongestKey && (node[2] & ~kBigData) == 0);
    const bool big = (node[2] & kBigData) != 0;
    require(data_at + (big ? 8 : size) <= page_size_);
    const std::span<const std::byte> key(page.data() + at + kNodeHeader, node[3]);
    advance(key, false);
    if (!big) return visit(key, std::span(page.data() + data_at, size));
    const auto first = load<std::uint64_t>(page.data() + data_at);
    mark(first, (kHeader + size + page_size_ - 1) / page_size_);
    // Blocks are never looked into here; the lists of free pages are.
    std::vector<std::byte> data(free_list_ ? size : 0);
    if (free_list_) require(file_.read_at(first * page_size_ + kHeader, data));
    visit(key, std::span<const std::byte>(data));
  }

  /// Keys rise throughout a tree; the first one after a separator may equal it.
  void advance(std::span<const std::byte> key, bool separator) {
    require(!free_list_ || key.size() == 8);
    if (!last_key_.empty()) {
      const int order = compare(last_key_, key);
      require(order < 0 || (order == 0 && last_was_separator_ && !separator));
    }
    last_key_.assign(key.begin(), key.end());
    last_was_separator_ = separator;
  }

  /// The free list has integer keys, the other tree orders bytes and puts a prefix first.
  int compare(std::span<const std::byte> a, std::span<const std::byte> b) const {
    if (free_list_) {
      const auto left = load<std::uint64_t>(a.data());
      const auto right = load<std::uint64_t>(b.data());
      return left < right ? -1 : (left > right ? 1 : 0);
    }
    const int order = std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()));
    if (order != 0) return order;
    return a.size() < b.size() ? -1 : (a.size() > b.size() ? 1 : 0);
  }

  /// A block or its directory; no cache comes to 2^48 of them.
  static bool names_block(std::span<const std::byte> key) {
    if (key.size() != sizeof(LmdbBlockKey)) return false;
    const auto letter = static_cast<char>(key[0]);
    return (letter == kBlockLetter || letter == kDirectoryLetter) && key[1] == std::byte{0} &&
           key[2] == std::byte{0};
  }

  void keep_format(std::span<const std::byte> key, std::span<const std::byte> data) {
    if (key.size() != kFormatKey.size() ||
        std::memcmp(key.data(), kFormatKey.data(), key.size()) != 0) {
      has_strange_keys_ = has_strange_keys_ || !names_block(key);
      return;
    }
    require(data.size() == sizeof(LmdbFormat));
    format_ = load<LmdbFormat>(data.data());
  }

  /// A free list: its length, then page numbers in falling order, none of them in use.
  void check_free(std::span<const std::byte> data) {
    require(data.size() >= 8 && data.size() % 8 == 0);
    const auto count = load<std::uint64_t>(data.data());
    require(count <= data.size() / 8 - 1);
    std::uint64_t above = last_page_ + 1;
    for (std::uint64_t i = 1; i <= count; ++i) {
      const auto number = load<std::uint64_t>(data.data() + 8 * i);
      require(number >= 2 && number < above);
      above = number;
      require(!used_[number]);
      used_[number] = true;
    }
  }

  PosixFile file_;
  std::size_t page_size_;
  std::uint64_t file_pages_;
  std::uint64_t last_page_ = 0;
  bool free_list_ = false;
  std::vector<std::byte> last_key_;
  bool last_was_separator_ = false;
  std::vector<bool> used_;
  std::optional<LmdbFormat> format_;
  bool has_strange_keys_ = false;
};

}  // namespace

LmdbFileState check_lmdb_file(const std::string& path) {
  PosixFile file = open_file(path, O_RDONLY);
  if (!file || file.size() == 0) return LmdbFileState::Absent;
  try {
    return Checker(std::move(file)).run();
  } catch (const Unsound&) {
    return LmdbFileState::Damaged;
  }
}

}  // namespace brim::detail
