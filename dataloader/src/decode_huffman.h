#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include <jpeglib.h>

#include "decode_arena.h"

namespace brim::detail {

/// Huffman decoding of sequential single-scan JPEGs, in libjpeg's place: the same coefficients in
/// about half the time, because the file lies in memory as a whole, byte stuffing is removed by
/// the run, and one table look-up gives run, value and length of most symbols. It reads faultless
/// data only: at the first oddity `next_mcu` says so and libjpeg decodes the file from its start,
/// with its own judgement of the damage.
class HuffmanReader {
 public:
  /// Made for what `cinfo` is about to read (after jpeg_start_decompress)? If so it is ready.
  /// `reduced`: reduced blocks need their low frequencies alone (replace_reduced_transforms).
  bool begin(jpeg_decompress_struct& cinfo, bool reduced, Arena& arena);
  /// Decodes one MCU into zeroed blocks; `blocks` null: reads over it. False: an oddity.
  bool next_mcu(jpeg_decompress_struct& cinfo, JBLOCKROW* blocks);

  static constexpr int kLookBits = 11;
  static constexpr int kSkipBits = 12;
  /// Most 16-bit patterns that begin with a longer code; a file with more is libjpeg's to decode.
  static constexpr int kMostLong = 1 << 13;

 private:
  /// Decoding table of one Huffman code.
  struct Table {
    std::uint8_t counts[17] = {};  ///< as in the file
    std::uint8_t symbols[256] = {};
    bool valid = false, is_dc = false;
    std::array<std::uint16_t, 1 << kLookBits> look{};  ///< see entry() in the source
    std::array<std::uint16_t, kMostLong> longer{};     ///< by 16 bits, from `first_long` on
    std::uint32_t first_long = 0;
    std::array<std::uint16_t, 1 << kSkipBits> skip{};  ///< see build_skip(); AC only
    bool can_skip = false;
  };
  struct Block {
    const Table* dc = nullptr;
    Table* ac = nullptr;
    int component = 0;
    int last = DCTSIZE2 - 1;  ///< coefficients beyond this one, in zigzag order, are read over
  };
  struct Bits;

  bool build(Table& table, const JHUFF_TBL* source, bool is_dc);
  static void build_skip(Table& table);
  void next_segment();
  void fill_window();
  bool restart();
  template <bool kKeepAll>
  static bool read_block(Bits& position, const Block& source, int last, std::uint32_t& dc,
                         JCOEF* block);
  static bool skip_symbols(Bits& bits, const Table& table, std::uint32_t& k);
  static std::uint32_t find(std::uint64_t buffer, const Table& table);

  std::array<Table, NUM_HUFF_TBLS> dc_{}, ac_{};
  std::array<Block, D_MAX_BLOCKS_IN_MCU> blocks_{};
  int block_count_ = 0;
  std::array<std::uint32_t, MAX_COMPS_IN_SCAN> last_dc_{};
  std::int64_t mcus_left_ = 0;
  unsigned restart_interval_ = 0, mcus_to_restart_ = 0;
  int next_restart_ = 0;

  const std::uint8_t* file_ = nullptr;  ///< next byte of the file behind the window
  const std::uint8_t* file_end_ = nullptr;
  std::uint8_t* window_ = nullptr;      ///< entropy-coded data without stuffing, then zeros
  std::uint8_t* window_end_ = nullptr;  ///< where the zeros begin
  bool at_marker_ = false;              ///< nothing of the segment is behind the window
  const std::uint8_t* next_ = nullptr;  ///< in the window
  std::uint64_t buffer_ = 0;            ///< bits read ahead, the next one on top
  int buffered_ = 0;
};

/// Lets `cinfo` call `decode_mcu` instead of libjpeg's own; false where this libjpeg is not known
/// to allow it.
bool replace_entropy_decoder(jpeg_decompress_struct& cinfo,
                             boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW*));

}  // namespace brim::detail
