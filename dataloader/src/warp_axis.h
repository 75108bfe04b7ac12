#pragma once

#include <cstdint>
#include <vector>

#include "augment_simd.h"
#include "brim/dataloader/image.h"
#include "warp_kernels.h"

namespace brim::detail {

/// Where the pixels of an output row read a source that is scaled, moved and mirrored but not
/// turned: the same columns for every row, so that a row is one vertical blend of two source rows
/// and one horizontal pass over the result. Keeps its memory.
struct AxisColumns {
  bool usable = false;
  int first = 0, count = 0;  ///< source columns that output [begin, end) reads
  int step = 1;              ///< output pixels at once whose columns lie within 64
  bool mirrored = false;
  std::vector<std::uint16_t> column;  ///< left tap of every output pixel, from `first` on
  std::vector<std::uint16_t> weight;  ///< of the right tap, 1/32768; one per output pixel

  /// Tables of output pixels [begin, end) that read u + x * du (pixel centres at integers) of a
  /// source `width` (at least 2) wide; beyond the source its edge is repeated.
  void plan(double u, double du, int width, int begin, int end);
};

/// Two neighbouring source rows and the weight of the lower one (of 128). What lies `ahead` bytes
/// from them is fetched into the cache on the way.
struct AxisRows {
  const std::uint8_t *top = nullptr, *bottom = nullptr;
  int weight = 0;
  std::ptrdiff_t ahead = 0;
};

/// Paints output pixels [begin, end), within those planned. `work` is scratch. Reads nothing
/// outside the columns planned, writes nothing outside [begin, end). The same bytes for every
/// `isa`: 7-bit weights of rows, 15-bit ones of columns.
void paint_axis_row(Isa isa, const AxisRows& rows, const AxisColumns& columns, int begin, int end,
                    std::vector<std::uint16_t>& work, Pixel* row);

}  // namespace brim::detail
