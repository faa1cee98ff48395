// Tags holds 16 bytes and compares all of them at once, with vector instructions if there are any.
#pragma once

#include <cstdint>

#include "../memory/compiler.h"
#include "simd.h"

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

namespace relay_limiter {

// The index of the lowest set bit. `bits` must not be 0.
inline unsigned lowestBit(uint32_t bits) noexcept {
#if defined(_MSC_VER) && !defined(__clang__)
  unsigned long index;
  _BitScanForward(&index, bits);
  return static_cast<unsigned>(index);
#elif (defined(__GNUC__) || defined(__clang__)) && !defined(RELAY_LIMITER_NO_SIMD)
  return static_cast<unsigned>(__builtin_ctz(bits));
#else
  unsigned index = 0;
  while ((bits >> index & 1) == 0) ++index;
  return index;
#endif
}

// Fetches the cache line at `address` into the cache in the background.
RELAY_LIMITER_INLINE void prefetch(const void* address) noexcept {
#if defined(RELAY_LIMITER_SSE2)
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
#elif defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address);
#else
  static_cast<void>(address);
#endif
}

class alignas(16) Tags {
 public:
  // Bit i of the result is set if byte i equals `tag`.
  uint32_t matches(uint8_t tag) const noexcept {
#if defined(RELAY_LIMITER_SSE2)
    const __m128i tags = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes_));
    const __m128i same = _mm_cmpeq_epi8(tags, _mm_set1_epi8(static_cast<char>(tag)));
    return static_cast<uint32_t>(_mm_movemask_epi8(same));
#elif defined(RELAY_LIMITER_NEON)
    // NEON has no instruction for the mask: each byte keeps one bit, and the bytes of a half are
    // added.
    constexpr uint8_t kBits[] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t same = vceqq_u8(vld1q_u8(bytes_), vdupq_n_u8(tag));
    const uint8x16_t bits = vandq_u8(same, vld1q_u8(kBits));
    const uint32_t high = vaddv_u8(vget_high_u8(bits));
    return high << 8 | vaddv_u8(vget_low_u8(bits));
#else
    uint32_t bits = 0;
    for (unsigned i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(bytes_[i] == tag) << i;
    return bits;
#endif
  }

  uint8_t at(unsigned slot) const noexcept { return bytes_[slot]; }
  void set(unsigned slot, uint8_t tag) noexcept { bytes_[slot] = tag; }

 private:
  uint8_t bytes_[16];
};

}  // namespace relay_limiter
