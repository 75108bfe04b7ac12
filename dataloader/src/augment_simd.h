#pragma once

#include <cstdint>

/// One place for instruction-set variants. A kernel body is an always-inline function; each variant
/// is a wrapper with a target attribute around it (or around intrinsics), chosen once at run time.
/// All variants of a kernel give the same bytes: integer arithmetic, or IEEE float operations in
/// one order without contraction. No ifuncs: they break under sanitizers and on other linkers.
#define BRIM_ALWAYS_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define BRIM_X86 1
#define BRIM_TARGET_AVX2 __attribute__((target("avx2")))
/// A part of such a kernel, whose constants stay in registers over the kernel's loop.
#define BRIM_PART_AVX2 inline __attribute__((always_inline, target("avx2")))
#else
#define BRIM_X86 0
#endif

namespace brim::detail {

enum class Isa : std::uint8_t { Portable, Avx2 };

/// Best variant this CPU runs.
Isa best_isa();

}  // namespace brim::detail
