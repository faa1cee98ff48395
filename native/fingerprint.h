// Fingerprint: 128 bits that stand for a key, by SipHash under a secret of the table's own. Who
// does not know the secret cannot choose keys that collide, and 128 bits do not collide by chance:
// a billion keys do with a probability below 2^-68. So a record needs no copy of its key, however
// long.
//
// SipHash: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), in its 128-bit form.
// The table uses 1 round a word and 3 at the end, as Rust's and Python's tables do; the published
// test vectors are of 2 and 4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace relay_limiter {

struct Fingerprint {
  uint64_t low;
  uint64_t high;
};

inline bool operator==(const Fingerprint& a, const Fingerprint& b) noexcept {
  return ((a.low ^ b.low) | (a.high ^ b.high)) == 0;
}

struct Secret {
  uint64_t k0;
  uint64_t k1;
};

// A key as a limiter sees it: its fingerprint, and its text for those that must be named. Without a
// text (nullptr: it was not read yet) a limiter says kNeedsName where it needs one.
struct Key {
  Fingerprint fingerprint;
  const char16_t* text;
  size_t length;
};

namespace siphash {

inline uint64_t rotateLeft(uint64_t x, int bits) noexcept {
  return (x << bits) | (x >> (64 - bits));
}

// Eight bytes as a little-endian word, on every machine.
inline uint64_t readWord(const unsigned char* bytes) noexcept {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

struct State {
  uint64_t v0, v1, v2, v3;

  void rounds(int count) noexcept {
    for (int i = 0; i < count; ++i) {
      v0 += v1;
      v2 += v3;
      v1 = rotateLeft(v1, 13) ^ v0;
      v3 = rotateLeft(v3, 16) ^ v2;
      v0 = rotateLeft(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = rotateLeft(v1, 17) ^ v2;
      v3 = rotateLeft(v3, 21) ^ v0;
      v2 = rotateLeft(v2, 32);
    }
  }

  uint64_t folded() const noexcept { return v0 ^ v1 ^ v2 ^ v3; }
};

template <int kWordRounds, int kFinalRounds>
Fingerprint hash(const unsigned char* bytes, size_t length, const Secret& secret) noexcept {
  State s{secret.k0 ^ 0x736f6d6570736575u, secret.k1 ^ 0x646f72616e646f6du ^ 0xee,
          secret.k0 ^ 0x6c7967656e657261u, secret.k1 ^ 0x7465646279746573u};
  const unsigned char* const end = bytes + (length & ~size_t{7});
  for (; bytes != end; bytes += 8) {
    const uint64_t word = readWord(bytes);
    s.v3 ^= word;
    s.rounds(kWordRounds);
    s.v0 ^= word;
  }
  uint64_t last = static_cast<uint64_t>(length) << 56;
  for (size_t i = 0; i < (length & 7); ++i) last |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  s.v3 ^= last;
  s.rounds(kWordRounds);
  s.v0 ^= last;
  s.v2 ^= 0xee;
  s.rounds(kFinalRounds);
  const uint64_t low = s.folded();
  s.v1 ^= 0xdd;
  s.rounds(kFinalRounds);
  return {low, s.folded()};
}

}  // namespace siphash

// Never all zero bits, which the table keeps for empty slots.
inline Fingerprint fingerprintOf(const char16_t* text, size_t length,
                                 const Secret& secret) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text);
  Fingerprint print = siphash::hash<1, 3>(bytes, length * sizeof(char16_t), secret);
  if ((print.low | print.high) == 0) print.low = 1;
  return print;
}

}  // namespace relay_limiter
