#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace brim::detail {

/// The whole file. Throws Error.
std::vector<char> read_bytes(const std::string& path);

/// Writes beside `path`, syncs, renames, syncs the folder. Throws Error; `path` is then unchanged.
void write_bytes_atomically(const std::string& path, std::string_view bytes);

/// A member of a zip archive that is held in memory.
struct ZipEntry {
  std::string name{};
  std::string_view data{};  ///< as stored
  std::uint32_t crc = 0;
  bool compressed = false;
};

/// The members of the archive in `bytes`. Throws ArchiveFault where it is cut short or a stored
/// member differs from its checksum.
std::vector<ZipEntry> read_zip(std::string_view bytes);

}  // namespace brim::detail
