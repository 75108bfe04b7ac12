#pragma once

#include <vector>

#include "decode_header.h"

namespace brim::detail {

/// The file with nothing but what pixels need (IHDR, PLTE, tRNS, IDAT, IEND): colour profiles and
/// texts are not unpacked, and libpng has nothing to print about them. Returns `file` where it is
/// so already, else what was put into `buffer`. A missing IEND is added.
Bytes essential_png(Bytes file, std::vector<std::byte>& buffer);

/// Why libpng may have refused `file`, by checksums; empty: unknown.
std::string png_damage(Bytes file);

}  // namespace brim::detail
