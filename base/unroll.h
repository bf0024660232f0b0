/*
 * Loops of the hot path that compilers leave rolled: over a constant table, or over atomic words.
 * Each stands before its `for`.
 */
#ifndef PL_BASE_UNROLL_H
#define PL_BASE_UNROLL_H

#if defined(__clang__)
#define PL_UNROLL_ALL _Pragma("clang loop unroll(full)")
#define PL_UNROLL_8   _Pragma("clang loop unroll_count(8)")
#else
#define PL_UNROLL_ALL _Pragma("GCC unroll 64")
#define PL_UNROLL_8   _Pragma("GCC unroll 8")
#endif

#endif
