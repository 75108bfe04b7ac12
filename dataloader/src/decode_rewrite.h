#pragma once

#include <vector>

#include "decode_header.h"

namespace brim::detail {

/// Makes files cheaper to keep and to decode without changing a pixel: progressive JPEGs become
/// baseline ones (they decode several times as fast) from the same coefficients, and metadata goes,
/// the orientation excepted. One per thread.
class JpegRewriter {
 public:
  /// What to keep in place of `file`: valid until the next call; `file` itself where nothing is
  /// gained or anything about it is odd (no JPEG, damaged, unfinished scans, stray bytes).
  Bytes rewrite(Bytes file);

 private:
  std::vector<std::byte> out_;
};

}  // namespace brim::detail
