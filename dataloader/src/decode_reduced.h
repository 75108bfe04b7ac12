#pragma once

#include <cstdio>

#include <jpeglib.h>

namespace brim::detail {

/// A block that becomes NxN pixels, N = 2 or 4, is the N-point inverse DCT of its NxN lowest
/// frequencies: the pixels that the orthonormal DCT itself has at that size. libjpeg's own
/// transforms fold higher frequencies in, so that all of them must be decoded; here the others are
/// read over, which is most of the work of a large photo.

/// Last coefficient, counted in the order of the file (zigzag), that a block of `size` x `size`
/// pixels depends on; `size` 1, 2, 4 or 8.
constexpr int last_coefficient(int size) {
  return size == 1 ? 0 : size == 2 ? 4 : size == 4 ? 24 : DCTSIZE2 - 1;
}

/// Inverse transforms of one block: dequantised, level-shifted and clamped pixels to
/// `rows[0..N)[column..column + N)`.
void inverse_dct_2x2(j_decompress_ptr cinfo, jpeg_component_info* component, JCOEFPTR block,
                     JSAMPARRAY rows, JDIMENSION column);
void inverse_dct_4x4(j_decompress_ptr cinfo, jpeg_component_info* component, JCOEFPTR block,
                     JSAMPARRAY rows, JDIMENSION column);

/// Lets `cinfo` (after jpeg_start_decompress) use them. False where this libjpeg is not known to
/// allow it: its own transforms then stay, and need every coefficient.
bool replace_reduced_transforms(jpeg_decompress_struct& cinfo);

}  // namespace brim::detail
