// A fingerprint is the 128-bit SipHash of a key under a secret of the table. Without the secret
// nobody can choose keys that collide, and by chance they do not: among a billion keys the
// probability is below 2^-68. So a record stores the fingerprint instead of the key, and its size
// does not depend on the key's length.
//
// SipHash: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), in its 128-bit form,
// with 1 round per word and 3 final rounds, as in the hash tables of Rust and Python. The published
// test vectors are for 2 and 4 rounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.h"

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

inline bool operator==(const Secret& a, const Secret& b) noexcept {
  return ((a.k0 ^ b.k0) | (a.k1 ^ b.k1)) == 0;
}

// A key as the limiters get it. The text is needed only to store the key of a new offender. `text`
// is nullptr if it has not been read; a limiter that needs it then returns kNeedsText.
struct Key {
  Fingerprint fingerprint;
  const char16_t* text;
  size_t length;
};

namespace siphash {

inline uint64_t rotateLeft(uint64_t x, int bits) noexcept {
  return (x << bits) | (x >> (64 - bits));
}

// Eight bytes as a little-endian word on every machine. Written without a loop, because GCC merges
// this form into one load.
inline uint64_t readWord(const unsigned char* bytes) noexcept {
  const auto at = [bytes](unsigned i) { return static_cast<uint64_t>(bytes[i]) << (8 * i); };
  return at(0) | at(1) | at(2) | at(3) | at(4) | at(5) | at(6) | at(7);
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

// Hashes a message word by word. `form` keeps messages of two kinds apart; 0xee is the form of the
// published 128-bit hash.
template <int kWordRounds, int kFinalRounds>
class Hasher {
 public:
  Hasher(const Secret& secret, uint64_t form) noexcept
      : s_{secret.k0 ^ 0x736f6d6570736575u, secret.k1 ^ 0x646f72616e646f6du ^ form,
           secret.k0 ^ 0x6c7967656e657261u, secret.k1 ^ 0x7465646279746573u} {}

  void add(uint64_t word) noexcept {
    s_.v3 ^= word;
    s_.rounds(kWordRounds);
    s_.v0 ^= word;
  }

  // `rest` holds the bytes after the last whole word of a message of `length` bytes.
  Fingerprint finish(uint64_t rest, size_t length) noexcept {
    add(rest | static_cast<uint64_t>(length) << 56);
    s_.v2 ^= 0xee;
    s_.rounds(kFinalRounds);
    const uint64_t low = s_.folded();
    s_.v1 ^= 0xdd;
    s_.rounds(kFinalRounds);
    return {low, s_.folded()};
  }

 private:
  State s_;
};

template <int kWordRounds, int kFinalRounds>
Fingerprint hash(const unsigned char* bytes, size_t length, const Secret& secret) noexcept {
  Hasher<kWordRounds, kFinalRounds> hasher(secret, 0xee);
  const unsigned char* const end = bytes + (length & ~size_t{7});
  for (; bytes != end; bytes += 8) hasher.add(readWord(bytes));
  uint64_t rest = 0;
  for (size_t i = 0; i < (length & 7); ++i) rest |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return hasher.finish(rest, length);
}

}  // namespace siphash

// Whether one of eight code units does not fit into one byte.
inline bool isTwoByte(const char16_t* units) noexcept {
  uint64_t words[2];
  std::memcpy(words, units, sizeof words);
  return ((words[0] | words[1]) & 0xff00ff00ff00ff00u) != 0;
}

// Packs eight code units of one byte each into a little-endian word.
inline uint64_t oneByteWord(const char16_t* units) noexcept {
  uint64_t word = 0;
#if defined(RELAY_LIMITER_SSE2)
  const __m128i wide = _mm_loadu_si128(reinterpret_cast<const __m128i*>(units));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(&word), _mm_packus_epi16(wide, wide));
#else
  for (unsigned i = 0; i < 8; ++i) word |= static_cast<uint64_t>(units[i]) << (8 * i);
#endif
  return word;
}

// Hashes a key with one byte per code unit, which is half the work; false if a unit does not fit.
// This has a form of its own, so that a one-byte key never has the hash of a two-byte key with the
// same bytes.
inline bool hashOneByte(const char16_t* text, size_t length, const Secret& secret,
                        Fingerprint& fingerprint) noexcept {
  siphash::Hasher<1, 3> hasher(secret, 0xed);
  const char16_t* const end = text + (length & ~size_t{7});
  for (; text != end; text += 8) {
    if (isTwoByte(text)) return false;
    hasher.add(oneByteWord(text));
  }
  uint64_t rest = 0;
  const size_t units = length & 7;
  if (units > 0 && length > 8) {
    // The last eight units; some of them are part of the previous word.
    const char16_t* const last = text + units - 8;
    if (isTwoByte(last)) return false;
    rest = oneByteWord(last) >> (8 * (8 - units));
  } else {
    for (size_t i = 0; i < units; ++i) {
      if (text[i] > 0xff) return false;
      rest |= static_cast<uint64_t>(text[i]) << (8 * i);
    }
  }
  fingerprint = hasher.finish(rest, length);
  return true;
}

// The fingerprint of a key. Never all zeros, because zeros mark an empty slot of the table.
inline Fingerprint fingerprintOf(const char16_t* text, size_t length,
                                 const Secret& secret) noexcept {
  Fingerprint fingerprint;
  if (!hashOneByte(text, length, secret, fingerprint)) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text);
    fingerprint = siphash::hash<1, 3>(bytes, length * sizeof(char16_t), secret);
  }
  if ((fingerprint.low | fingerprint.high) == 0) fingerprint.low = 1;
  return fingerprint;
}

}  // namespace relay_limiter
