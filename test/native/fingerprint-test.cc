// Tests of the fingerprint: SipHash's published vectors, and values of the table's own variant.
// .ci/run builds it with sanitizers.

#include "../../native/table/fingerprint.h"

#include <cstdint>
#include <cstdio>
#include <string>

#include "require.h"

using relay_limiter::Fingerprint;
using relay_limiter::fingerprintOf;
using relay_limiter::Secret;

namespace {

void testPublishedVectors() {
  // The 128-bit vectors of the SipHash authors: key 00 01 .. 0f, messages of 0 to 63 bytes 00 01 ..
  // The first four end in part of a word; the others lie around the ends of one and two words.
  struct {
    size_t length;
    uint64_t low, high;
  } const vectors[] = {
      {0, 0xe6a825ba047f81a3u, 0x930255c71472f66du},
      {1, 0x44af996bd8c187dau, 0x45fc229b11597634u},
      {2, 0xc75da4a48d227781u, 0xe4ff0af6de8ba3fcu},
      {3, 0x4ea967520cb6709cu, 0x51ed8529b0b6335fu},
      {7, 0x53c1dbd8beebf1a1u, 0x3982f01fa64ab8c0u},
      {8, 0x61f55862baa9623bu, 0xb49714f364e2830fu},
      {9, 0xabbad90a06994426u, 0xed716dbb028b7fc4u},
      {15, 0x11a8b03399e99354u, 0xd9c3cf970fec087eu},
      {16, 0xbb54b067caa4e26eu, 0x77052385bf1533fdu},
      {63, 0x4a83502f77d15051u, 0x7cbd3f979a063e50u},
  };
  unsigned char message[64];
  for (unsigned i = 0; i < 64; ++i) message[i] = static_cast<unsigned char>(i);
  const Secret secret{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  for (const auto& vector : vectors) {
    const auto fingerprint = relay_limiter::siphash::hash<2, 4>(message, vector.length, secret);
    require(fingerprint == Fingerprint{vector.low, vector.high}, "SipHash-2-4-128 as published");
  }
}

// Values of the table's own variant, with 1 and 3 rounds. Nobody publishes such values; these keep
// a change of the hash from passing unnoticed.
void testGoldenFingerprints() {
  struct {
    std::u16string key;
    uint64_t low, high;
  } const goldens[] = {
    {u"", 0x49f24145ce6eb47bu, 0xb9040af35295cc6eu},
    {u"a", 0xe660b29bbdbb0357u, 0x2f05961f84e2370fu},
    {u"peer", 0x5ff5caa92f7e5c65u, 0x82da0ed482c0717eu},
    {u"a-relay-peer-with-a-long-name:443", 0x56a29545ecf1f25eu, 0xbe46453a47b477a1u},
    {u"caf\u00e9", 0x56868a8340f776cau, 0x4841c2d206c07cd0u},
  // A key with a wide unit is hashed as its units lie in memory, so big-endian values differ.
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_BIG_ENDIAN__
    {u"\u00e9\u4e00", 0x6a8348b4814dcbefu, 0xee6523c0fd90559au},
    {u"\U0001f600", 0x959423695b381192u, 0xf4e6dd5663929fa8u},
#endif
  };
  const Secret secret{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  for (const auto& golden : goldens) {
    const Fingerprint fingerprint = fingerprintOf(golden.key.data(), golden.key.size(), secret);
    require(fingerprint == Fingerprint{golden.low, golden.high}, "fingerprints are what they were");
  }
}

// Keys of all lengths of the last word, folded into one value.
void testGoldenLengths() {
  const Secret secret{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  std::u16string key;
  uint64_t folded = 0;
  for (unsigned length = 0; length < 40; ++length) {
    const Fingerprint fingerprint = fingerprintOf(key.data(), key.size(), secret);
    folded = (folded << 7 | folded >> 57) ^ fingerprint.low ^ fingerprint.high;
    key.push_back(static_cast<char16_t>(0x21 + 5 * length));
  }
  require(folded == 0xa287f89aa7719bb0u,
          "narrow keys of all lengths have the fingerprints they had");
}

// A narrow key with the bytes that a wide key has in memory, or would have if each unit were cut to
// one byte, has another fingerprint.
void testNarrowAndWideKeys() {
  const Secret secret{1, 2};
  const auto differ = [&](const std::u16string& a, const std::u16string& b) {
    const Fingerprint one = fingerprintOf(a.data(), a.size(), secret);
    require(!(one == fingerprintOf(b.data(), b.size(), secret)), "different keys differ");
  };
  differ(u"ab", u"\u6261");
  differ(u"ab", u"\u6162");
  constexpr char16_t kWide[] = {0x100, 0x1ff, 0xd83d, 0xffff};
  for (size_t length = 1; length < 40; ++length) {
    const std::u16string narrow(length, u'\u00ff');
    for (size_t i = 0; i < length; ++i) {
      for (const char16_t wide : kWide) {
        std::u16string other = narrow;
        other[i] = wide;
        differ(narrow, other);
      }
    }
  }
}

}  // namespace

int main() {
  testPublishedVectors();
  testGoldenFingerprints();
  testGoldenLengths();
  testNarrowAndWideKeys();
  std::puts("fingerprint: passed");
}
