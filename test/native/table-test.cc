// The table alone: against its model, without memory, against chosen keys; and the fingerprint
// against SipHash's published vectors. .ci/run builds it with sanitizers.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "table-model.h"

using relay_limiter::Fingerprint;
using relay_limiter::fingerprintOf;
using relay_limiter::Secret;
using relay_limiter::Table;

namespace {

struct alignas(32) Record {
  Fingerprint fingerprint;
  uint64_t value;
};

class RandomModel : public TableModel {
 public:
  explicit RandomModel(uint64_t seed) : random_(seed) {}

  Fingerprint insertRandom() {
    const Fingerprint fingerprint{random_(), random_()};
    require(insert(fingerprint, random_()), "insert finds a place");
    prints_.push_back(fingerprint);
    return fingerprint;
  }

  void replaceRandom() {
    const Fingerprint fingerprint{random_(), random_()};
    if (replaceOne(fingerprint, random_())) prints_.push_back(fingerprint);
  }

  // A sweep may have erased it before.
  void eraseRandom() {
    if (prints_.empty()) return;
    std::swap(prints_[static_cast<size_t>(random_() % prints_.size())], prints_.back());
    erase(prints_.back());
    prints_.pop_back();
  }

  void sweepWhileOthersCome(uint64_t divisor) {
    while (sweepStep(divisor)) insertRandom();
  }

  // Empties the first pages, as a cleanup with a budget does.
  void sweepPages(unsigned pages) {
    while (pages-- > 0 && sweepStep(1)) continue;
  }

  void compareWithStrangers() {
    compare();
    for (int place = -1000; place < 1'000'000; place += 7) ask({place, 1, 1});
    for (int i = 0; i < 1000; ++i) {
      require(!find({random_(), random_()}), "strangers are not there");
    }
  }

 private:
  std::mt19937_64 random_;
  std::vector<Fingerprint> prints_;
};

void testAgainstModel(uint64_t seed) {
  std::mt19937_64 random(seed);
  RandomModel model(seed);
  constexpr size_t kTargets[] = {500, 30, 100'000, 20'000, 60'000, 0, 300'000, 10};
  for (const size_t target : kTargets) {
    while (model.size() != target) {
      const bool grow = model.size() < target;
      if (random() % 4 != 0 ? grow : !grow) {
        model.insertRandom();
      } else {
        model.eraseRandom();
      }
    }
    model.compareWithStrangers();
    for (size_t i = 0; i < model.size() / 4; ++i) model.replaceRandom();
    if (target > 50'000) model.sweepWhileOthersCome(2 + random() % 3);
    model.compareWithStrangers();
  }
  require(model.memory() < 600'000 / 32 * RECORD_BYTES, "what a flood took is given back");
  model.clear();
  model.insertRandom();
  model.compareWithStrangers();
}

// Each insert is tried with its first allocation failing, then its second, until it needs no more.
void testInsertsWithoutMemory(uint64_t seed) {
  std::mt19937_64 random(seed);
  TableModel model;
  std::vector<Fingerprint> prints;
  unsigned failures = 0;
  while (prints.size() < 20'000) {
    prints.push_back({random(), random()});
    for (unsigned n = 0;; ++n) {
      const size_t memory = model.memory();
      allocationsLeft = n;
      const bool inserted = model.insert(prints.back(), random());
      allocationsLeft = kNoneFails;
      if (inserted) break;
      ++failures;
      require(n > 0 || model.memory() == memory, "what got no memory takes none");
      model.compare();
    }
  }
  std::printf("table: %u inserts failed for want of memory\n", failures);
  require(failures > 50, "starting, growing and splitting need memory");
  // Giving memory back needs a little as well, and does without.
  allocationsLeft = 0;
  allOfThemFail = true;
  const size_t full = model.memory();
  for (size_t i = 0; i < prints.size() - 100; ++i) model.erase(prints[i]);
  allocationsLeft = kNoneFails;
  allOfThemFail = false;
  model.compare();
  require(model.memory() < full / 4, "a table shrinks where there is no memory");
  for (const Fingerprint& fingerprint : prints) {
    require(model.insert(fingerprint, random()), "a table that had no memory grows again");
  }
  model.compare();
  model.clear();
}

// A sample of a table that is full: sixteen, or all where there are no more.
void testSamples(uint64_t seed) {
  std::mt19937_64 random(seed);
  Table<Record> table;
  while (table.size() < 100'000) {
    table.insert({random(), random()})->value = 0;
    const size_t size = table.size();
    if (size > 50 && size % 1000 != 0) continue;
    size_t seen = 0;
    table.sample({random(), random()}, 16, [&](Record& record) {
      record.value = size;
      ++seen;
      return false;
    });
    require(seen == std::min<size_t>(size, 16), "a sample is as large as it can be");
    size_t marked = 0;
    table.forEach([&](const Record& record) { marked += record.value == size ? 1 : 0; });
    require(marked == seen, "and sees nothing twice");
  }
  size_t seen = 0;
  table.sample({1, 1}, 16, [&](Record&) { return ++seen == 3; });
  require(seen == 3, "a sample ends when it is told to");
}

// A newcomer whose page a cleanup has emptied finds somebody to replace, and with memory a place.
void testReplacingWherePartIsEmpty(uint64_t seed) {
  for (const unsigned records : {20u, 400u, 2'000u, 20'000u}) {
    for (const unsigned emptied : {1u, 3u, 20u}) {
      RandomModel model(seed);
      while (model.size() < records) model.insertRandom();
      model.sweepPages(emptied);
      const size_t left = model.size();
      for (unsigned n = 0; n < 2'000; ++n) model.replaceRandom();
      model.compareWithStrangers();
      require(model.size() == left, "each that comes replaces one");
    }
  }
}

// Where a page is full, a replacement moves nothing and needs no memory.
void testReplacingInAPage(uint64_t seed) {
  std::mt19937_64 random(seed);
  Table<Record> table;
  while (table.size() < 100'000) table.insert({random(), random()})->value = 0;
  const uint64_t epoch = table.epoch();
  const size_t memory = table.memoryBytes();
  for (unsigned n = 0; n < 100'000; ++n) {
    const Fingerprint fingerprint{random(), random()};
    Record* one = nullptr;
    table.sample(fingerprint, 16, [&](Record& record) {
      one = &record;
      return false;
    });
    require(table.replace(one, fingerprint) == one || table.find(fingerprint) != nullptr,
            "it is there");
  }
  require(table.epoch() == epoch && table.memoryBytes() == memory, "and nothing has moved");
}

// The table between 1 and 10 million records, at each size.
void testMemory() {
  std::mt19937_64 random(7);
  Table<Record> table;
  double worst = 0;
  while (table.size() < 1'500'000) {
    table.insert({random(), random()})->value = 0;
    if (table.size() < 500'000) continue;
    const double bytes =
        static_cast<double>(table.memoryBytes()) / static_cast<double>(table.size());
    if (bytes > worst) worst = bytes;
  }
  std::printf("table: at most %.1f bytes a record from 500,000 to 1,500,000\n", worst);
  require(worst < 50, "a record costs less than 50 bytes");
}

// No secret makes keys like these likely; the table must refuse them and stay whole.
void testKeysThatCollide() {
  std::mt19937_64 random(9);
  TableModel model;
  size_t inserted = 0;
  while (inserted < 100'000 && model.insert({42, random()}, inserted)) ++inserted;
  require(inserted >= 480, "a page of them fits");
  require(inserted < 1000, "more are refused");
  require(model.size() == inserted, "a refusal changes nothing");
  model.compare();
}

// A fingerprint that counts how often it is read: how many records an operation looks at.
unsigned long long reads = 0;

class CountingFingerprint {
 public:
  CountingFingerprint& operator=(const Fingerprint& fingerprint) noexcept {
    print_ = fingerprint;
    return *this;
  }

  operator const Fingerprint&() const noexcept {
    ++reads;
    return print_;
  }

 private:
  Fingerprint print_;
};

struct alignas(32) CountingRecord {
  CountingFingerprint fingerprint;
  uint64_t value;
};

// The most records that a look-up of one of the keys, or of as many strangers, reads.
unsigned long long longestLookUp(const std::vector<std::u16string>& keys, const Secret& secret) {
  Table<CountingRecord> table;
  for (const std::u16string& key : keys) {
    const Fingerprint fingerprint = fingerprintOf(key.data(), key.size(), secret);
    require(table.insert(fingerprint) != nullptr, "the flood finds places");
  }
  unsigned long long longest = 0;
  const auto lookUp = [&](const std::u16string& key, bool isThere) {
    const Fingerprint fingerprint = fingerprintOf(key.data(), key.size(), secret);
    reads = 0;
    require((table.find(fingerprint) != nullptr) == isThere,
            "the flood, and nobody else, is there");
    longest = std::max(longest, reads);
  };
  for (const std::u16string& key : keys) {
    lookUp(key, true);
    lookUp(key + u"?", false);
  }
  return longest;
}

std::u16string numbered(const std::string& prefix, unsigned number) {
  const std::string text = prefix + std::to_string(number);
  return {text.begin(), text.end()};
}

void testChosenKeys(uint64_t seed) {
  // Keys that share home group and tag under a secret that the attacker knows.
  const Secret known{0, 0};
  std::vector<std::u16string> keys;
  constexpr uint64_t kHomeGroupAndTag = 0xff00001f;
  for (unsigned n = 0; keys.size() < 1'000; ++n) {
    const std::u16string key = numbered("", n);
    const Fingerprint fingerprint = fingerprintOf(key.data(), key.size(), known);
    if ((fingerprint.low & kHomeGroupAndTag) == 0) keys.push_back(key);
  }
  const unsigned long long underKnown = longestLookUp(keys, known);
  require(underKnown > 100, "who knows the secret makes look-ups long");
  for (unsigned n = 0; n < 99'500; ++n) keys.push_back(numbered("peer-", n));
  for (unsigned n = 0; n < 99'500; ++n) keys.push_back(numbered(std::string(40, 'x'), n));
  std::mt19937_64 random(seed);
  const Secret secret{random(), random()};
  const unsigned long long underRandom = longestLookUp(keys, secret);
  std::printf(
      "table: look-ups of chosen keys read at most %llu records, %llu if they know the secret\n",
      underRandom, underKnown);
  require(underRandom <= 24, "who does not know the secret does not");
}

// Who goes through another table, as a cleanup does, erases in the order of that table's places.
void testErasingInOrder(uint64_t seed) {
  constexpr unsigned kRecords = 20'000;
  std::mt19937_64 random(seed);
  std::vector<Fingerprint> prints;
  for (unsigned n = 0; n < kRecords; ++n) prints.push_back({random(), random()});
  Table<CountingRecord> table;
  for (const Fingerprint& fingerprint : prints) {
    require(table.insert(fingerprint) != nullptr, "there is memory");
  }
  std::sort(prints.begin(), prints.end(),
            [](const Fingerprint& a, const Fingerprint& b) { return a.low < b.low; });
  const size_t full = table.memoryBytes();
  reads = 0;
  for (const Fingerprint& fingerprint : prints) table.erase(table.find(fingerprint));
  std::printf("table: erasing in order reads %llu records each\n", reads / kRecords);
  require(reads / kRecords < 300, "no erasure looks through its segment in vain");
  require(table.memoryBytes() < full / 20, "and memory goes back");
}

// Erased like that, but not to the end, as by a cleanup with a budget: then keys come again.
void testGrowingWherePartIsEmpty(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (const unsigned records : {400u, 2'000u, 5'000u, 20'000u}) {
    // Out of sixty-four parts of all fingerprints so many are emptied.
    for (const uint64_t emptied : {1u, 32u, 48u, 60u, 63u}) {
      Table<Record> table;
      const auto insert = [&](const Fingerprint& fingerprint) {
        require(table.insert(fingerprint) != nullptr, "there is memory, and a place");
      };
      std::vector<Fingerprint> prints;
      for (unsigned n = 0; n < records; ++n)
        insert(prints.emplace_back(Fingerprint{random(), random()}));
      for (const Fingerprint& fingerprint : prints) {
        if (fingerprint.low >> 58 < emptied) table.erase(table.find(fingerprint));
      }
      for (unsigned n = 0; n < 4 * records; ++n) insert({random(), random()});
      for (const Fingerprint& fingerprint : prints) {
        require((table.find(fingerprint) == nullptr) == (fingerprint.low >> 58 < emptied),
                "the rest is there");
      }
    }
  }
}

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

// Golden values: what the table's own variant, of 1 and 3 rounds, gave when they were written down.
// Nobody publishes them; they are here so that a change of the hash is a decision.
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
  // A key with a wide unit is hashed as its units lie in memory: elsewhere it has another.
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

// All lengths of a last word, and what is before it, folded into one golden value.
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

// A narrow key of the very bytes that a wide one has in memory, or would have cut to a byte a unit.
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

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("table: seed %llu\n", static_cast<unsigned long long>(seed));
  testPublishedVectors();
  testGoldenFingerprints();
  testGoldenLengths();
  testNarrowAndWideKeys();
  testAgainstModel(seed);
  testInsertsWithoutMemory(seed);
  testSamples(seed);
  testReplacingWherePartIsEmpty(seed);
  testReplacingInAPage(seed);
  testKeysThatCollide();
  testChosenKeys(seed);
  testErasingInOrder(seed);
  testGrowingWherePartIsEmpty(seed);
  testMemory();
  std::puts("table: passed");
}
