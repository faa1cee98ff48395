// RELAY_LIMITER_NOINLINE: before a function that its callers hardly ever need. It stays out of
// them, and leaves them their registers for what they do every time.
#pragma once

#if defined(__GNUC__) || defined(__clang__)
#define RELAY_LIMITER_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define RELAY_LIMITER_NOINLINE __declspec(noinline)
#else
#define RELAY_LIMITER_NOINLINE
#endif

// RELAY_LIMITER_INLINE: before a function that only asks for memory. GCC takes such a function for
// one without any effect and drops its calls, unless it has put it into its callers before.
#if defined(__GNUC__) || defined(__clang__)
#define RELAY_LIMITER_INLINE __attribute__((always_inline)) inline
#elif defined(_MSC_VER)
#define RELAY_LIMITER_INLINE __forceinline
#else
#define RELAY_LIMITER_INLINE inline
#endif
