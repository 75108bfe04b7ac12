#pragma once

#include <string>

namespace brim::detail {

enum class LmdbFileState {
  Absent,       ///< no file, or an empty one
  Sound,        ///< pages, trees and free list fit together; format record of this version
  Empty,        ///< sound, without any record yet
  OtherFormat,  ///< sound, but of another format version or byte order
  Damaged,
};

/// Reads the page structure of an LMDB 0.9 data file without mapping it: LMDB itself trusts every
/// page and would follow a damaged pointer out of its map. Reads branch and leaf pages only, never
/// the blocks. Nobody may write to the file meanwhile.
LmdbFileState check_lmdb_file(const std::string& path);

}  // namespace brim::detail
