#pragma once

#include <cstdio>

#include <jpeglib.h>

#include "decode_arena.h"

namespace brim::detail {

/// Lets `cinfo` (just created) take all memory of an image from `arena` instead of from malloc,
/// quantisation and Huffman tables included. `out_of_memory` is called where the arena refuses and
/// must not return. `arena` must outlive `cinfo`.
void use_arena(jpeg_decompress_struct& cinfo, Arena& arena,
               void (*out_of_memory)(j_common_ptr cinfo));

/// Forgets tables of the image before, so that nothing of it can show in the next one.
void forget_tables(jpeg_decompress_struct& cinfo);

}  // namespace brim::detail
