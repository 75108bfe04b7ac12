#pragma once

#include <cstdint>

namespace brim {

/// Resident bytes of this process now, mapped files included; 0 where it cannot be read. One read
/// of /proc/self/statm: cheap enough for every line that is shown, unlike read_memory_limits().
std::int64_t resident_bytes();

/// Private writable address space of this process, touched or not: what RLIMIT_DATA counts.
std::int64_t private_address_space();

/// Address space that RLIMIT_AS leaves this process; the largest number where there is no limit.
std::int64_t address_space_left();

/// Address space that this process has set aside for itself and that holds nothing yet: under a
/// limit on address space it is still to be had. Who reserves such a stretch adds its length, takes
/// off what it makes memory of, and adds what it gives back. Any thread.
void add_idle_address_space(std::int64_t bytes);
std::int64_t idle_address_space();

}  // namespace brim
