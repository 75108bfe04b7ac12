#pragma once

#include <cstdint>

#include "posix_file.h"

namespace brim::detail {

/// Locks on single bytes of a file that belong to the open file description: they end with it,
/// however its process ends, and two descriptions of one process exclude each other too.

/// Tries for up to `timeout_ms`; false when another holds it that long.
bool lock_byte(const PosixFile& file, std::int64_t byte, LockKind kind, int timeout_ms);
void unlock_byte(const PosixFile& file, std::int64_t byte);
/// Whether another description holds a lock on that byte.
bool byte_is_locked(const PosixFile& file, std::int64_t byte);

}  // namespace brim::detail
