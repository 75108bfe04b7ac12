#pragma once

#include <atomic>
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

#include "brim/dataloader/decode.h"
#include "decode_area.h"
#include "decode_arena.h"
#include "decode_header.h"
#include "decode_huffman.h"
#include "decode_orient.h"

namespace brim::detail {

struct JpegHeader {
  int width = 0, height = 0;  ///< as stored
  int orientation = 1;        ///< EXIF 1..8
  bool progressive = false, arithmetic = false, multi_scan = false;
};

/// How one JPEG becomes pixels. Everything is in stored orientation.
struct JpegPlan {
  int denominator = 1;  ///< DCT scale 1, 2, 4, 8
  Rect crop{};          ///< of the scaled picture; its size where all of it is wanted
  int reduced_width = 0, reduced_height = 0;  ///< size to bring `crop` down to; its own: as it is
};

/// libjpeg with everything reused: no allocation per image in steady state, nothing printed.
/// One per thread. Calls come in pairs: `read_header`, then `decode` or another `read_header`.
class JpegDecoder {
 public:
  explicit JpegDecoder(const DecodeLimits& limits);
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  /// Decodes throw CalledOff soon after `flag` is true.
  void call_off_when(const std::atomic<bool>& flag) { called_off_ = &flag; }
  /// Throws DecodeError. `file` must live until the decode is done.
  JpegHeader read_header(Bytes file);
  /// Decodes the file whose header was read last into `image` (upright). Throws DecodeError.
  void decode(const JpegPlan& plan, Image& image);

 private:
  static void on_error(j_common_ptr cinfo);
  static void on_message(j_common_ptr cinfo, int level);
  static void on_progress(j_common_ptr cinfo);
  static void on_out_of_memory(j_common_ptr cinfo);
  static boolean on_end_of_data(j_decompress_ptr cinfo);
  static void on_skip(j_decompress_ptr cinfo, long bytes);
  static boolean on_exif(j_decompress_ptr cinfo);
  static boolean on_mcu(j_decompress_ptr cinfo, JBLOCKROW* blocks);

  enum class Entropy : std::uint8_t { Fast, Library };
  enum class Outcome : std::uint8_t { Done, TryLibrary };

  /// Runs `work` with libjpeg's errors turned into DecodeError. `work` must own nothing that needs
  /// a destructor: errors leave it by longjmp.
  template <class Work>
  Outcome guarded(Work&& work);
  [[noreturn]] void fail(const char* text);
  void check_called_off();
  void check_plausible();
  void check_memory(const JpegPlan& plan);
  Outcome run(const JpegPlan& plan, Entropy entropy, const UprightWriter& writer);
  void start(const JpegPlan& plan, Entropy entropy);
  void read_in_place(const UprightWriter& writer);
  void read_strips(const JpegPlan& plan, const UprightWriter& writer);
  void store(const JpegPlan& plan, const UprightWriter& writer, int first, int count,
             const std::uint8_t* rows, std::ptrdiff_t stride);
  void read_to_end();
  std::uint8_t* take_rows(int rows, std::size_t stride);

  DecodeLimits limits_;
  const std::atomic<bool>* called_off_ = nullptr;
  Arena arena_{};
  AreaReducer reducer_{};
  HuffmanReader huffman_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct cinfo_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX + 32]{};
  Bytes file_{};
  int orientation_ = 1;
  bool have_exif_ = false;
  std::uint8_t* strip_ = nullptr;    ///< rows as libjpeg gives them
  std::uint8_t* reduced_ = nullptr;  ///< rows brought down, waiting to be stored together
  int reduced_count_ = 0, reduced_first_ = 0;
};

}  // namespace brim::detail
