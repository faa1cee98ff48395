// Which of the machine's own instructions for sixteen bytes at once there are.
#pragma once

// RELAY_LIMITER_NO_SIMD is for tests of the portable way.
#if (defined(__SSE2__) || defined(_M_X64)) && !defined(RELAY_LIMITER_NO_SIMD)
#include <emmintrin.h>
#define RELAY_LIMITER_SSE2
#endif
