#include "decode_jpeg_memory.h"

#include <algorithm>
#include <cstring>
#include <new>

// libjpeg takes its memory through a table of functions in `cinfo->mem`. These put everything that
// belongs to one image into the arena: no malloc per image, one place that knows what it takes.
// "Virtual" arrays, the coefficients of multi-scan files, are plain memory here.
namespace brim::detail {
namespace {

template <class Row>
struct VirtualArray {
  Row* rows = nullptr;
  JDIMENSION units_per_row = 0;
  JDIMENSION row_count = 0;
  bool zeroed = false;
  VirtualArray* next = nullptr;
};
using VirtualSamples = VirtualArray<JSAMPROW>;
using VirtualBlocks = VirtualArray<JBLOCKROW>;

struct ArenaManager {
  jpeg_memory_mgr table{};  // first: cinfo->mem points here
  jpeg_memory_mgr* original = nullptr;
  Arena* arena = nullptr;
  void (*out_of_memory)(j_common_ptr) = nullptr;
  VirtualSamples* samples = nullptr;
  VirtualBlocks* blocks = nullptr;
};

ArenaManager& manager(j_common_ptr cinfo) {
  return *reinterpret_cast<ArenaManager*>(cinfo->mem);
}

void* take(j_common_ptr cinfo, std::size_t bytes) {
  void* memory = manager(cinfo).arena->take(bytes);
  if (memory == nullptr) manager(cinfo).out_of_memory(cinfo);
  return memory;
}

void* allocate(j_common_ptr cinfo, int, std::size_t bytes) {
  return take(cinfo, bytes);
}

/// Rows of `unit` bytes times `units`, each padded to 64 bytes as libjpeg-turbo's SIMD code wants.
template <class Row>
Row* take_rows(j_common_ptr cinfo, std::size_t unit, std::size_t units, std::size_t rows) {
  const std::size_t pitch =
      (unit * units + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
  auto* const table = static_cast<Row*>(take(cinfo, rows * sizeof(Row)));
  auto* const memory = static_cast<char*>(take(cinfo, rows * pitch));
  for (std::size_t i = 0; i < rows; ++i) table[i] = reinterpret_cast<Row>(memory + i * pitch);
  return table;
}

JSAMPARRAY allocate_samples(j_common_ptr cinfo, int, JDIMENSION samples, JDIMENSION rows) {
  return take_rows<JSAMPROW>(cinfo, sizeof(JSAMPLE), samples, rows);
}

JBLOCKARRAY allocate_blocks(j_common_ptr cinfo, int, JDIMENSION blocks, JDIMENSION rows) {
  return take_rows<JBLOCKROW>(cinfo, sizeof(JBLOCK), blocks, rows);
}

template <class Row>
VirtualArray<Row>* request(j_common_ptr cinfo, boolean pre_zero, JDIMENSION units, JDIMENSION rows,
                           VirtualArray<Row>*& list) {
  auto* const array = new (take(cinfo, sizeof(VirtualArray<Row>)))
      VirtualArray<Row>{nullptr, units, rows, pre_zero != FALSE, list};
  list = array;
  return array;
}

jvirt_sarray_ptr request_samples(j_common_ptr cinfo, int, boolean pre_zero, JDIMENSION samples,
                                 JDIMENSION rows, JDIMENSION) {
  return reinterpret_cast<jvirt_sarray_ptr>(
      request(cinfo, pre_zero, samples, rows, manager(cinfo).samples));
}

jvirt_barray_ptr request_blocks(j_common_ptr cinfo, int, boolean pre_zero, JDIMENSION blocks,
                                JDIMENSION rows, JDIMENSION) {
  return reinterpret_cast<jvirt_barray_ptr>(
      request(cinfo, pre_zero, blocks, rows, manager(cinfo).blocks));
}

template <class Row>
void realize(j_common_ptr cinfo, std::size_t unit, VirtualArray<Row>* array) {
  for (; array != nullptr; array = array->next) {
    if (array->rows != nullptr) continue;
    array->rows = take_rows<Row>(cinfo, unit, array->units_per_row, array->row_count);
    if (!array->zeroed) continue;
    for (JDIMENSION i = 0; i < array->row_count; ++i) {
      std::memset(array->rows[i], 0, unit * array->units_per_row);
    }
  }
}

void realize_arrays(j_common_ptr cinfo) {
  realize(cinfo, sizeof(JSAMPLE), manager(cinfo).samples);
  realize(cinfo, sizeof(JBLOCK), manager(cinfo).blocks);
}

JSAMPARRAY access_samples(j_common_ptr, jvirt_sarray_ptr array, JDIMENSION first, JDIMENSION,
                          boolean) {
  return reinterpret_cast<VirtualSamples*>(array)->rows + first;
}

JBLOCKARRAY access_blocks(j_common_ptr, jvirt_barray_ptr array, JDIMENSION first, JDIMENSION,
                          boolean) {
  return reinterpret_cast<VirtualBlocks*>(array)->rows + first;
}

void free_pool(j_common_ptr cinfo, int) {
  ArenaManager& own = manager(cinfo);
  own.samples = nullptr;
  own.blocks = nullptr;
  own.arena->reset();
}

void self_destruct(j_common_ptr cinfo) {
  ArenaManager& own = manager(cinfo);
  cinfo->mem = own.original;  // holds `own` itself and what was made with `cinfo`
  (*cinfo->mem->self_destruct)(cinfo);
}

}  // namespace

void use_arena(jpeg_decompress_struct& cinfo, Arena& arena, void (*out_of_memory)(j_common_ptr)) {
  auto* const common = reinterpret_cast<j_common_ptr>(&cinfo);
  void* const memory = (*cinfo.mem->alloc_small)(common, JPOOL_PERMANENT, sizeof(ArenaManager));
  auto* const own = new (memory) ArenaManager;
  own->original = cinfo.mem;
  own->arena = &arena;
  own->out_of_memory = out_of_memory;
  own->table = *cinfo.mem;
  own->table.alloc_small = allocate;
  own->table.alloc_large = allocate;
  own->table.alloc_sarray = allocate_samples;
  own->table.alloc_barray = allocate_blocks;
  own->table.request_virt_sarray = request_samples;
  own->table.request_virt_barray = request_blocks;
  own->table.realize_virt_arrays = realize_arrays;
  own->table.access_virt_sarray = access_samples;
  own->table.access_virt_barray = access_blocks;
  own->table.free_pool = free_pool;
  own->table.self_destruct = self_destruct;
  cinfo.mem = &own->table;
}

void forget_tables(jpeg_decompress_struct& cinfo) {
  std::fill(std::begin(cinfo.quant_tbl_ptrs), std::end(cinfo.quant_tbl_ptrs), nullptr);
  std::fill(std::begin(cinfo.dc_huff_tbl_ptrs), std::end(cinfo.dc_huff_tbl_ptrs), nullptr);
  std::fill(std::begin(cinfo.ac_huff_tbl_ptrs), std::end(cinfo.ac_huff_tbl_ptrs), nullptr);
}

}  // namespace brim::detail
