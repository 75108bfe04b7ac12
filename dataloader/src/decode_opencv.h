#pragma once

#include <vector>

#include "brim/dataloader/decode.h"
#include "decode_header.h"

namespace brim::detail {

/// Decodes what is no JPEG through OpenCV. One per thread.
class OpenCvDecoder {
 public:
  /// Pixels as stored (RGB, orientation not applied unless header.decoder_orients) into `image`.
  /// Throws DecodeError.
  void decode(Bytes file, const HeaderInfo& header, Image& image);

 private:
  std::vector<std::byte> clean_{};  ///< a PNG without what pixels do not need
};

}  // namespace brim::detail
