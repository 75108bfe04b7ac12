#pragma once

#include <vector>

#include "decode_header.h"

namespace brim::detail {

/// The file with nothing but what pixels need (IHDR, PLTE, tRNS, IDAT, IEND): colour profiles and
/// texts are not unpacked, and libpng has nothing to print about them. Returns `file` where it is
/// so already, else what was put into `buffer`. A missing IEND is added.
Bytes essential_png(Bytes file, std::vector<std::byte>& buffer);

/// What is wrong with `file` by the checksums of its chunks; empty: nothing.
std::string png_damage(Bytes file);

}  // namespace brim::detail
