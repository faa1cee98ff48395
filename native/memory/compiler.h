// What compilers differ in: attributes of functions.
#pragma once

// RELAY_LIMITER_NOINLINE keeps cold code out of its hot callers, so that it takes none of their
// registers.
#if defined(__GNUC__) || defined(__clang__)
#define RELAY_LIMITER_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define RELAY_LIMITER_NOINLINE __declspec(noinline)
#else
#define RELAY_LIMITER_NOINLINE
#endif

// RELAY_LIMITER_INLINE inlines a function that only prefetches. GCC treats such a function as one
// without effect and drops every call that it has not inlined.
#if defined(__GNUC__) || defined(__clang__)
#define RELAY_LIMITER_INLINE __attribute__((always_inline)) inline
#elif defined(_MSC_VER)
#define RELAY_LIMITER_INLINE __forceinline
#else
#define RELAY_LIMITER_INLINE inline
#endif
