#include "decode_huffman.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "decode_reduced.h"

// ITU-T T.81, F.2.2: DC differences and AC run/size pairs. A look-up entry describes the symbol
// that the next kLookBits bits begin with:
//   bits  0..4   bits of code and value together
//   bits  5..8   size of the value behind the code
//   bits  9..15  for AC: run + 1, kEnd for end of block; for DC: 1
// 0 stands for a code longer than the look-up: such codes lie together at the end of all codes, so
// a second look-up by 16 bits, counted from the first of them, is short. There 0 means no code.
// The next look-up waits for the first field alone; the value is computed beside it, without a
// branch.
namespace brim::detail {
namespace {

constexpr std::size_t kPadding = 64;
constexpr std::size_t kWindow = std::size_t{16} << 10;
/// Most bytes of one MCU: 10 blocks of 64 codes and values of 31 bits, and what is read ahead.
constexpr std::ptrdiff_t kMostOfMcu = D_MAX_BLOCKS_IN_MCU * DCTSIZE2 * 4 + 16;
constexpr std::uint32_t kEnd = 64, kUnknown = 512;

constexpr std::array<std::uint8_t, 64> kNaturalOrder{
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

inline std::uint64_t load_big_endian(const std::uint8_t* from) {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof word);
  if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
  return word;
}

/// How many of eight bytes, as they lie in memory, stand before the first 0xFF.
inline int bytes_before_mark(std::uint64_t word) {
  constexpr std::uint64_t kLow = 0x0101010101010101, kHigh = 0x8080808080808080;
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  const std::uint64_t marks = (~word - kLow) & word & kHigh;  // the lowest one is true
  return marks == 0 ? 8 : std::countr_zero(marks) / 8;
}

inline std::uint32_t length_of(std::uint32_t entry) {
  return entry & 31;
}
inline std::uint32_t size_of(std::uint32_t entry) {
  return entry >> 5 & 15;
}
inline std::uint32_t advance_of(std::uint32_t entry) {
  return entry >> 9;
}

std::uint16_t entry(int code_length, int symbol, bool is_dc) {
  const int size = symbol & 15;
  const int run = is_dc ? 0 : symbol >> 4;
  std::uint32_t advance = static_cast<std::uint32_t>(run) + 1;
  if (!is_dc && size == 0 && run != 15) advance = kEnd;
  const auto length = static_cast<std::uint32_t>(code_length + size);
  return static_cast<std::uint16_t>(length | static_cast<std::uint32_t>(size) << 5 | advance << 9);
}

/// Value of `size` (0..15) bits that lie behind the code of a symbol of `length` bits in all;
/// T.81, F.2.2.1, EXTEND.
inline int value_of(std::uint64_t buffer, std::uint32_t length, std::uint32_t size) {
  const std::uint64_t behind = buffer << (length - size);
  const auto bits = static_cast<std::int32_t>((behind >> 1) >> (63 - size));
  const auto positive = static_cast<std::int32_t>(behind >> 63);
  return bits + ((positive - 1) & (1 - (1 << size)));
}

}  // namespace

/// Bit position. Kept in registers while a block is decoded: never passed by reference to what
/// is not inlined.
struct HuffmanReader::Bits {
  const std::uint8_t* next;
  const std::uint8_t* limit;  ///< last place to load from
  std::uint64_t buffer;
  int count;

  /// Room for one symbol.
  void fill() {
    if (count < 32) fill_up();
  }
  /// Afterwards at least 56 bits are there.
  void fill_up() {
    buffer |= load_big_endian(next) >> count;
    next += (63 - count) >> 3;
    count |= 56;
    if (next > limit) [[unlikely]]
      next = limit;  // zeros, noticed after the MCU
  }
  void skip(std::uint32_t bits) {
    buffer <<= bits;
    count -= static_cast<int>(bits);
  }
};

bool HuffmanReader::build(Table& table, const JHUFF_TBL* source, bool is_dc) {
  if (source == nullptr) return false;
  if (table.valid && table.is_dc == is_dc &&
      std::memcmp(table.counts, source->bits, sizeof table.counts) == 0 &&
      std::memcmp(table.symbols, source->huffval, sizeof table.symbols) == 0) {
    return true;  // cameras and libraries use the same tables over and over
  }
  table.valid = table.can_skip = false;
  std::memcpy(table.counts, source->bits, sizeof table.counts);
  std::memcpy(table.symbols, source->huffval, sizeof table.symbols);
  table.counts[0] = 0;
  table.is_dc = is_dc;
  table.look.fill(0);
  table.longer.fill(0);
  int code = 0, index = 0;
  for (int length = 1; length <= 16; ++length, code <<= 1) {
    const int count = table.counts[length];
    if (index + count > 256 || code + count > (1 << length)) return false;
    if (length == kLookBits + 1) {
      table.first_long = static_cast<std::uint32_t>(code) << (16 - length);
    }
    for (int i = 0; i < count; ++i, ++code, ++index) {
      const int symbol = table.symbols[index];
      if (is_dc && symbol > 15) return false;
      const bool is_long = length > kLookBits;
      const int spare = (is_long ? 16 : kLookBits) - length;
      std::uint32_t first = static_cast<std::uint32_t>(code) << spare;
      if (is_long) first -= table.first_long;
      if (is_long && first + (1u << spare) > table.longer.size()) return false;
      std::uint16_t* const entries = (is_long ? table.longer.data() : table.look.data()) + first;
      std::fill_n(entries, 1 << spare, entry(length, symbol, is_dc));
    }
  }
  std::memcpy(table.counts, source->bits, sizeof table.counts);
  table.valid = true;
  return true;
}

/// Entries of `skip`, by the next kSkipBits bits: as many symbols as have their codes in them, up
/// to an end of block.
///   bits 0..5   bits of codes and values together
///   bits 6..15  sum of runs + 1; kEnd more with an end of block; kUnknown: no code ends in there
void HuffmanReader::build_skip(Table& table) {
  for (std::size_t pattern = 0; pattern < table.skip.size(); ++pattern) {
    const std::uint64_t bits = std::uint64_t{pattern} << (64 - kSkipBits);
    std::uint32_t used = 0, advance = 0;
    while (used < kSkipBits && advance < kEnd) {
      const std::uint32_t found = table.look[bits << used >> (64 - kLookBits)];
      const std::uint32_t code = length_of(found) - size_of(found), step = advance_of(found);
      if (found == 0 || used + code > kSkipBits) break;
      if (step != kEnd && advance + step >= DCTSIZE2 - 1) break;
      advance += step;
      used += length_of(found);
    }
    if (used == 0) advance = kUnknown;
    table.skip[pattern] = static_cast<std::uint16_t>(used | advance << 6);
  }
  table.can_skip = true;
}

bool HuffmanReader::begin(jpeg_decompress_struct& cinfo, bool reduced, Arena& arena) {
  if (cinfo.progressive_mode || cinfo.arith_code || cinfo.data_precision != 8) return false;
  if (jpeg_has_multiple_scans(&cinfo)) return false;
  if (cinfo.Ss != 0 || cinfo.Se != DCTSIZE2 - 1 || cinfo.Ah != 0 || cinfo.Al != 0) return false;
  block_count_ = cinfo.blocks_in_MCU;
  for (int i = 0; i < block_count_; ++i) {
    const int in_scan = cinfo.MCU_membership[i];
    const jpeg_component_info& component = *cinfo.cur_comp_info[in_scan];
    const auto dc = static_cast<std::size_t>(component.dc_tbl_no);
    const auto ac = static_cast<std::size_t>(component.ac_tbl_no);
    if (dc >= dc_.size() || ac >= ac_.size()) return false;
    if (!build(dc_[dc], cinfo.dc_huff_tbl_ptrs[dc], true)) return false;
    if (!build(ac_[ac], cinfo.ac_huff_tbl_ptrs[ac], false)) return false;
    const int size = component.DCT_scaled_size;
    const int last = reduced || size == 1 ? last_coefficient(size) : DCTSIZE2 - 1;
    blocks_[static_cast<std::size_t>(i)] = {&dc_[dc], &ac_[ac], in_scan, last};
  }
  file_ = cinfo.src->next_input_byte;
  file_end_ = file_ + cinfo.src->bytes_in_buffer;
  window_ = static_cast<std::uint8_t*>(arena.take(kWindow + kPadding));
  if (window_ == nullptr) return false;
  mcus_left_ = std::int64_t{cinfo.MCUs_per_row} * cinfo.MCU_rows_in_scan;
  restart_interval_ = mcus_to_restart_ = cinfo.restart_interval;
  next_restart_ = 0;
  next_segment();
  return true;
}

void HuffmanReader::next_segment() {
  at_marker_ = false;
  next_ = window_end_ = window_;
  buffer_ = 0;
  buffered_ = 0;
  last_dc_.fill(0);
  fill_window();
}

/// Removes the stuffing of as much as fits, at most up to the next marker, where `file_` stops.
void HuffmanReader::fill_window() {
  const auto kept = static_cast<std::size_t>(window_end_ - next_);
  std::memmove(window_, next_, kept);
  next_ = window_;
  std::uint8_t* to = window_ + kept;
  std::uint8_t* const full = window_ + kWindow;
  const std::uint8_t* from = file_;
  while (to < full && !at_marker_) {
    const std::uint8_t* const last = from + std::min(file_end_ - from, full - to);
    for (int plain = 8; plain == 8 && last - from >= 8; from += plain, to += plain) {
      std::uint64_t word;
      std::memcpy(&word, from, sizeof word);
      std::memcpy(to, &word, sizeof word);
      plain = bytes_before_mark(word);
    }
    while (from < last && *from != 0xFF) *to++ = *from++;
    if (from == last) {
      at_marker_ = from == file_end_;
    } else if (from + 1 < file_end_ && from[1] == 0) {
      *to++ = 0xFF;
      from += 2;
    } else {
      at_marker_ = true;
    }
  }
  file_ = from;
  std::memset(to, 0, kPadding);
  window_end_ = to;
}

bool HuffmanReader::restart() {
  if (!at_marker_) fill_window();
  if (!at_marker_) return false;  // data is left over
  if (file_end_ - file_ < 2 || file_[0] != 0xFF || file_[1] != JPEG_RST0 + next_restart_) {
    return false;
  }
  file_ += 2;
  next_restart_ = (next_restart_ + 1) & 7;
  mcus_to_restart_ = restart_interval_;
  next_segment();
  return true;
}

/// Entry of the symbol that `buffer` begins with; 0: no such code.
inline std::uint32_t HuffmanReader::find(std::uint64_t buffer, const Table& table) {
  const std::uint32_t found = table.look[buffer >> (64 - kLookBits)];
  if (found != 0) [[likely]]
    return found;
  const std::uint64_t behind = (buffer >> 48) - table.first_long;
  return behind < table.longer.size() ? table.longer[behind] : 0;
}

/// Reads over AC symbols, several at a look-up, for as long as it can; `k` is the last coefficient
/// behind. True: the block has ended.
inline bool HuffmanReader::skip_symbols(Bits& bits, const Table& table, std::uint32_t& k) {
  for (;;) {
    bits.fill_up();
    for (int i = 0; i < 2; ++i) {  // of at most 26 bits each
      const std::uint32_t found = table.skip[bits.buffer >> (64 - kSkipBits)];
      const std::uint32_t reached = k + (found >> 6);
      if (reached >= DCTSIZE2 - 1) {
        const bool has_end = found >> 6 >= kEnd && found >> 6 < kUnknown;
        if (!has_end || reached >= kEnd + DCTSIZE2 - 1) return false;
        bits.skip(found & 63);
        return true;
      }
      k = reached;
      bits.skip(found & 63);
    }
  }
}

/// One block; false: an oddity. Coefficients up to `last` are kept where `block` is not null.
template <bool kKeepAll>
inline bool HuffmanReader::read_block(Bits& position, const Block& source, int last,
                                      std::uint32_t& dc, JCOEF* block) {
  Bits bits = position;
  const Table& dc_table = *source.dc;
  bits.fill();
  std::uint32_t found = find(bits.buffer, dc_table);
  if (found == 0) [[unlikely]]
    return false;
  dc += static_cast<std::uint32_t>(value_of(bits.buffer, length_of(found), size_of(found)));
  bits.skip(length_of(found));
  if (block != nullptr) block[0] = static_cast<JCOEF>(dc);

  const Table& ac_table = *source.ac;
  for (std::uint32_t k = 0; k < DCTSIZE2 - 1;) {
    const bool wanted = kKeepAll || k < static_cast<std::uint32_t>(last);
    if (!wanted && skip_symbols(bits, ac_table, k)) break;
    bits.fill();
    found = find(bits.buffer, ac_table);
    if (found == 0) [[unlikely]]
      return false;
    const std::uint32_t advance = advance_of(found);
    k += advance;
    if (k >= kEnd) {
      bits.skip(length_of(found));
      if (advance != kEnd) return false;  // a run beyond the block
      break;
    }
    if (wanted) {
      block[kNaturalOrder[k]] =
          static_cast<JCOEF>(value_of(bits.buffer, length_of(found), size_of(found)));
    }
    bits.skip(length_of(found));
  }
  position = bits;
  return true;
}

bool HuffmanReader::next_mcu(jpeg_decompress_struct& cinfo, JBLOCKROW* blocks) {
  if (restart_interval_ != 0) {
    if (mcus_to_restart_ == 0 && !restart()) return false;
    --mcus_to_restart_;
  }
  if (!at_marker_ && window_end_ - next_ < kMostOfMcu) fill_window();
  Bits bits{next_, window_end_ + kPadding - 8, buffer_, buffered_};
  for (int i = 0; i < block_count_; ++i) {
    const Block& block = blocks_[static_cast<std::size_t>(i)];
    std::uint32_t& dc = last_dc_[static_cast<std::size_t>(block.component)];
    JCOEF* const to = blocks == nullptr ? nullptr : *blocks[i];
    const int last = to == nullptr ? 0 : block.last;
    // Only now: most files are decoded whole, and many bring tables of their own.
    if (last < DCTSIZE2 - 1 && !block.ac->can_skip) build_skip(*block.ac);
    const bool good = last == DCTSIZE2 - 1 ? read_block<true>(bits, block, last, dc, to)
                                           : read_block<false>(bits, block, last, dc, to);
    if (!good) return false;
  }
  next_ = bits.next;
  buffer_ = bits.buffer;
  buffered_ = bits.count;
  if ((next_ - window_end_) * 8 > buffered_) return false;  // more than there is
  if (--mcus_left_ == 0) {                                  // what follows is libjpeg's to read
    cinfo.src->next_input_byte = file_;
    cinfo.src->bytes_in_buffer = static_cast<std::size_t>(file_end_ - file_);
  }
  return true;
}

bool replace_entropy_decoder(jpeg_decompress_struct& cinfo,
                             boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW*)) {
#if LIBJPEG_TURBO_VERSION_NUMBER >= 2000000 && LIBJPEG_TURBO_VERSION_NUMBER < 4000000
  // Head of libjpeg's jpeg_entropy_decoder (jpegint.h), the same in all of these versions.
  struct EntropyDecoder {
    void (*start_pass)(j_decompress_ptr);
    boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW*);
  };
  reinterpret_cast<EntropyDecoder*>(cinfo.entropy)->decode_mcu = decode_mcu;
  return true;
#else
  static_cast<void>(cinfo);
  static_cast<void>(decode_mcu);
  return false;
#endif
}

}  // namespace brim::detail
