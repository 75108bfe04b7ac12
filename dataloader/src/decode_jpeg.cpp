#include "decode_jpeg.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <jerror.h>

#include "decode_jpeg_memory.h"

namespace brim::detail {
namespace {

/// More scans than any encoder writes: a file that has them only wants to take time.
constexpr int kMostScans = 500;

constexpr int kFailed = 1, kOdd = 2, kCalledOff = 3;  // what longjmp brings

JpegDecoder& self(j_common_ptr cinfo) {
  return *static_cast<JpegDecoder*>(cinfo->client_data);
}

/// Warnings after which pixels are not what the encoder meant.
bool means_damage(int code) {
  switch (code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_MUST_RESYNC:
      return true;
    default:
      return false;
  }
}

}  // namespace

JpegDecoder::JpegDecoder(const DecodeLimits& limits) : limits_(limits) {
  cinfo_.err = jpeg_std_error(&errors_);
  errors_.error_exit = on_error;
  errors_.emit_message = on_message;
  errors_.output_message = [](j_common_ptr) {};
  cinfo_.client_data = this;  // kept by jpeg_create_decompress
  if (setjmp(jump_) != 0) throw DecodeError(message_);
  jpeg_create_decompress(&cinfo_);
  use_arena(cinfo_, arena_, on_out_of_memory);
  progress_.progress_monitor = on_progress;
  cinfo_.progress = &progress_;
  source_.init_source = [](j_decompress_ptr) {};
  source_.fill_input_buffer = on_end_of_data;
  source_.skip_input_data = on_skip;
  source_.resync_to_restart = jpeg_resync_to_restart;
  source_.term_source = [](j_decompress_ptr) {};
  cinfo_.src = &source_;
  jpeg_set_marker_processor(&cinfo_, JPEG_APP0 + 1, on_exif);
}

JpegDecoder::~JpegDecoder() {
  jpeg_destroy_decompress(&cinfo_);
}

void JpegDecoder::on_error(j_common_ptr cinfo) {
  JpegDecoder& decoder = self(cinfo);
  char text[JMSG_LENGTH_MAX];
  (*cinfo->err->format_message)(cinfo, text);
  std::snprintf(decoder.message_, sizeof decoder.message_, "damaged JPEG: %s", text);
  std::longjmp(decoder.jump_, kFailed);
}

void JpegDecoder::on_message(j_common_ptr cinfo, int level) {
  if (level >= 0 || !means_damage(cinfo->err->msg_code)) return;
  if (self(cinfo).limits_.truncated == Truncated::Reject) on_error(cinfo);
}

void JpegDecoder::on_progress(j_common_ptr cinfo) {
  JpegDecoder& decoder = self(cinfo);
  decoder.check_called_off();
  if (reinterpret_cast<j_decompress_ptr>(cinfo)->input_scan_number > kMostScans) {
    decoder.fail("damaged JPEG: more than 500 scans");
  }
}

void JpegDecoder::check_called_off() {
  if (called_off_ != nullptr && called_off_->load(std::memory_order_relaxed)) {
    std::longjmp(jump_, kCalledOff);
  }
}

void JpegDecoder::on_out_of_memory(j_common_ptr cinfo) {
  self(cinfo).fail("JPEG needs more memory than allowed");
}

boolean JpegDecoder::on_end_of_data(j_decompress_ptr cinfo) {
  JpegDecoder& decoder = self(reinterpret_cast<j_common_ptr>(cinfo));
  if (decoder.limits_.truncated == Truncated::Reject) {
    decoder.fail("truncated JPEG: the file ends before its end marker");
  }
  static constexpr JOCTET kEnd[2] = {0xFF, JPEG_EOI};
  cinfo->src->next_input_byte = kEnd;
  cinfo->src->bytes_in_buffer = sizeof kEnd;
  return TRUE;
}

void JpegDecoder::on_skip(j_decompress_ptr cinfo, long bytes) {
  if (bytes <= 0) return;
  if (static_cast<unsigned long>(bytes) > cinfo->src->bytes_in_buffer) {
    on_end_of_data(cinfo);
    return;
  }
  cinfo->src->next_input_byte += bytes;
  cinfo->src->bytes_in_buffer -= static_cast<std::size_t>(bytes);
}

boolean JpegDecoder::on_exif(j_decompress_ptr cinfo) {
  JpegDecoder& decoder = self(reinterpret_cast<j_common_ptr>(cinfo));
  const Bytes rest(reinterpret_cast<const std::byte*>(cinfo->src->next_input_byte),
                   cinfo->src->bytes_in_buffer);
  const std::size_t length = rest.size() < 2 ? 2 : big_endian(rest, 0, 2);
  if (length < 2) decoder.fail("damaged JPEG: an APP1 segment has an impossible length");
  if (length > rest.size()) return on_end_of_data(cinfo);
  const Bytes segment = rest.subspan(2, length - 2);
  constexpr char kMark[] = "Exif\0";  // and the terminator: six bytes
  if (!decoder.have_exif_ && segment.size() > sizeof kMark &&
      std::memcmp(segment.data(), kMark, sizeof kMark) == 0) {
    decoder.have_exif_ = true;
    decoder.orientation_ = exif_orientation(segment);
  }
  on_skip(cinfo, static_cast<long>(length));
  return TRUE;
}

void JpegDecoder::fail(const char* text) {
  std::snprintf(message_, sizeof message_, "%s", text);
  std::longjmp(jump_, kFailed);
}

boolean JpegDecoder::on_mcu(j_decompress_ptr cinfo, JBLOCKROW* blocks) {
  JpegDecoder& decoder = self(reinterpret_cast<j_common_ptr>(cinfo));
  decoder.check_called_off();
  if (!decoder.huffman_.next_mcu(*cinfo, blocks)) std::longjmp(decoder.jump_, kOdd);
  return TRUE;
}

template <class Work>
JpegDecoder::Outcome JpegDecoder::guarded(Work&& work) {
  const int brought = setjmp(jump_);
  if (brought == 0) {
    work();
    return Outcome::Done;
  }
  jpeg_abort_decompress(&cinfo_);
  if (brought == kCalledOff) throw CalledOff();
  if (brought == kFailed) throw DecodeError(message_);
  return Outcome::TryLibrary;
}

JpegHeader JpegDecoder::read_header(Bytes file) {
  jpeg_abort_decompress(&cinfo_);
  forget_tables(cinfo_);
  arena_.set_limit(0);
  file_ = file;
  orientation_ = 1;
  have_exif_ = false;
  source_.next_input_byte = reinterpret_cast<const JOCTET*>(file.data());
  source_.bytes_in_buffer = file.size();
  guarded([this] { jpeg_read_header(&cinfo_, TRUE); });
  return {.width = static_cast<int>(cinfo_.image_width),
          .height = static_cast<int>(cinfo_.image_height),
          .orientation = orientation_,
          .progressive = cinfo_.progressive_mode != FALSE,
          .arithmetic = cinfo_.arith_code != FALSE,
          .multi_scan = jpeg_has_multiple_scans(&cinfo_) != FALSE};
}

void JpegDecoder::check_plausible() {
  if (cinfo_.arith_code || limits_.truncated == Truncated::Accept) return;
  // A Huffman code takes a bit at least; a sequential block has two of them (DC, end of block).
  std::int64_t blocks = 0;
  const jpeg_component_info& luma = cinfo_.comp_info[0];
  blocks = std::int64_t{luma.width_in_blocks} * luma.height_in_blocks;
  const std::int64_t bits = cinfo_.progressive_mode ? blocks : 2 * blocks;
  if (bits / 8 > static_cast<std::int64_t>(file_.size())) {
    throw DecodeError("truncated JPEG: " + std::to_string(file_.size()) + " bytes cannot hold " +
                      std::to_string(cinfo_.image_width) + "x" +
                      std::to_string(cinfo_.image_height) + " pixels");
  }
}

void JpegDecoder::check_memory(const JpegPlan& plan) {
  if (limits_.max_bytes == 0) return;
  const std::int64_t result = std::int64_t{3} * plan.reduced_width * plan.reduced_height;
  std::int64_t scratch = std::int64_t{64} * cinfo_.image_width / plan.denominator;
  if (jpeg_has_multiple_scans(&cinfo_)) {
    for (int i = 0; i < cinfo_.num_components; ++i) {
      const jpeg_component_info& component = cinfo_.comp_info[i];
      scratch +=
          std::int64_t{sizeof(JBLOCK)} * component.width_in_blocks * component.height_in_blocks;
    }
  }
  if (result + scratch > limits_.max_bytes) {
    throw DecodeError("JPEG of " + std::to_string(cinfo_.image_width) + "x" +
                      std::to_string(cinfo_.image_height) + " needs " +
                      std::to_string(result + scratch) + " bytes to decode, " +
                      std::to_string(limits_.max_bytes) + " are allowed");
  }
  // libjpeg's own rows come on top; beyond this it is stopped.
  arena_.set_limit(static_cast<std::size_t>(limits_.max_bytes - result) + (std::size_t{1} << 20));
}

void JpegDecoder::decode(const JpegPlan& plan, Image& image) {
  check_plausible();
  check_memory(plan);
  const bool transposed = transposes(orientation_);
  image.resize(transposed ? plan.reduced_height : plan.reduced_width,
               transposed ? plan.reduced_width : plan.reduced_height);
  const UprightWriter writer(image.mutable_view(), orientation_);
  if (run(plan, Entropy::Fast, writer) == Outcome::TryLibrary) {
    read_header(file_);
    check_memory(plan);
    run(plan, Entropy::Library, writer);
  }
}

JpegDecoder::Outcome JpegDecoder::run(const JpegPlan& plan, Entropy entropy,
                                      const UprightWriter& writer) {
  const bool reduced =
      plan.crop.width != plan.reduced_width || plan.crop.height != plan.reduced_height;
  if (reduced) {
    reducer_.begin(plan.crop.width, plan.crop.height, plan.reduced_width, plan.reduced_height);
  }
  return guarded([&] {
    start(plan, entropy);
    const bool whole = plan.crop.width == static_cast<int>(cinfo_.output_width) &&
                       plan.crop.height == static_cast<int>(cinfo_.output_height);
    if (whole && !reduced && cinfo_.out_color_space == JCS_RGB &&
        writer.row_in_place(0) != nullptr) {
      read_in_place(writer);
    } else {
      read_strips(plan, writer);
    }
    read_to_end();
  });
}

}  // namespace brim::detail
