// RELAY_LIMITER_APART: before a function that its callers hardly ever need. It stays out of them,
// and leaves them their registers for what they do every time.
#pragma once

#if defined(__GNUC__) || defined(__clang__)
#define RELAY_LIMITER_APART __attribute__((noinline))
#elif defined(_MSC_VER)
#define RELAY_LIMITER_APART __declspec(noinline)
#else
#define RELAY_LIMITER_APART
#endif
