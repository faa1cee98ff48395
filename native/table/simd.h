// Which vector instructions for 16 bytes this processor has.
#pragma once

// RELAY_LIMITER_NO_SIMD: tests of the portable code define it.
#if defined(RELAY_LIMITER_NO_SIMD)
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define RELAY_LIMITER_SSE2
#elif (defined(__aarch64__) && defined(__ARM_NEON)) || defined(_M_ARM64)
#include <arm_neon.h>
#define RELAY_LIMITER_NEON
#endif
