#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "brim/dataloader/dataset.h"

namespace brim {

/// The encoded bytes of `record`: record.memory where it has them, else `record.source`'s range of
/// `path` (length 0: all of the file) read into `buffer`, which only grows. The result is valid
/// until `buffer` is used again. Thread-safe with a buffer per thread. Throws DecodeError, with
/// the file named, where it is missing, unreadable or shorter than the range.
std::span<const std::byte> read_bytes(const Record& record, const std::string& path,
                                      std::vector<std::byte>& buffer);

}  // namespace brim
