// Tests of the table without a limiter: against its model, without memory, and with chosen keys.
// .ci/run builds it with sanitizers.

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

template <size_t kRecordBytes>
class RandomModel : public TableModel<kRecordBytes> {
  using Model = TableModel<kRecordBytes>;

 public:
  explicit RandomModel(uint64_t seed) : random_(seed) {}

  Fingerprint insertRandom() {
    const Fingerprint fingerprint{random_(), random_()};
    require(Model::insert(fingerprint, random_()), "insert finds a place");
    prints_.push_back(fingerprint);
    return fingerprint;
  }

  void replaceRandom() {
    const Fingerprint fingerprint{random_(), random_()};
    if (Model::replaceOne(fingerprint, random_())) prints_.push_back(fingerprint);
  }

  // A sweep may have erased it before.
  void eraseRandom() {
    if (prints_.empty()) return;
    std::swap(prints_[static_cast<size_t>(random_() % prints_.size())], prints_.back());
    Model::erase(prints_.back());
    prints_.pop_back();
  }

  void sweepWhileOthersCome(uint64_t divisor) {
    while (Model::sweepStep(divisor)) insertRandom();
  }

  // Empties the first pages, as a cleanup with a budget does.
  void sweepPages(unsigned pages) {
    while (pages-- > 0 && Model::sweepStep(1)) continue;
  }

  void compareWithStrangers() {
    Model::compare();
    for (int i = 0; i < 1000; ++i) {
      require(!Model::find({random_(), random_()}), "strangers are not there");
    }
    // Other places each time.
    const int first = -1000 + static_cast<int>(random_() % 101);
    for (int place = first; place < 1'000'000; place += 101) Model::ask({place, 1, 1});
  }

 private:
  std::mt19937_64 random_;
  std::vector<Fingerprint> prints_;
};

// Tables of larger records have fewer of them, so that all have as many pages.
template <size_t kRecordBytes>
void testAgainstModel(uint64_t seed) {
  constexpr size_t kFewer = kRecordBytes / 32;
  constexpr size_t kTargets[] = {500, 30, 100'000, 20'000, 60'000, 0, 150'000, 10};
  std::mt19937_64 random(seed);
  RandomModel<kRecordBytes> model(seed);
  for (const size_t most : kTargets) {
    const size_t target = most / kFewer;
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
    if (most > 50'000) model.sweepWhileOthersCome(2 + random() % 3);
    model.compareWithStrangers();
  }
  require(model.memory() < 600'000, "what a flood took is given back");
  model.clear();
  model.insertRandom();
  model.compareWithStrangers();
}

// Each insert is tried with its first allocation failing, then its second, until it needs no more.
template <size_t kRecordBytes>
void testInsertsWithoutMemory(uint64_t seed) {
  std::mt19937_64 random(seed);
  TableModel<kRecordBytes> model;
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
  std::printf("table: %u inserts failed for lack of memory\n", failures);
  require(failures > 50, "starting, growing and splitting need memory");
  // Shrinking needs memory too, and continues without it.
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

// A sample has sixteen records, or all if there are fewer.
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

// A newcomer can replace a record even if a cleanup has emptied the newcomer's page.
template <size_t kRecordBytes>
void testReplacingWherePartIsEmpty(uint64_t seed) {
  for (const unsigned records : {20u, 400u, 2'000u, 20'000u}) {
    for (const unsigned emptied : {1u, 3u, 20u}) {
      RandomModel<kRecordBytes> model(seed);
      while (model.size() < records) model.insertRandom();
      model.sweepPages(emptied);
      const size_t left = model.size();
      for (unsigned n = 0; n < 2'000; ++n) model.replaceRandom();
      model.compareWithStrangers();
      require(model.size() == left, "each that comes replaces one");
    }
  }
}

// A replacement within a full page moves no other record and needs no memory.
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

// The bytes per record at each size from 500,000 to 1,500,000 records.
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
  std::printf("table: at most %.1f bytes per record from 500,000 to 1,500,000\n", worst);
  require(worst < 50, "a record costs less than 50 bytes");
}

// The table refuses keys that no secret makes likely, and stays consistent.
void testKeysThatCollide() {
  std::mt19937_64 random(9);
  TableModel<32> model;
  size_t inserted = 0;
  while (inserted < 100'000 && model.insert({42, random()}, inserted)) ++inserted;
  require(inserted >= 480, "a page of them fits");
  require(inserted < 1000, "more are refused");
  require(model.size() == inserted, "a refusal changes nothing");
  model.compare();
}

// A fingerprint that counts its reads, so that a test knows how many records an operation reads.
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

// The maximum number of records that a look-up reads: of one of the keys, or of an unknown key.
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
  for (unsigned n = 0; keys.size() < 400; ++n) {
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

// A cleanup visits another table, and erases here in the order of that table's places.
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

// A cleanup with a budget erases a part in that order. Then new keys come.
void testGrowingWherePartIsEmpty(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (const unsigned records : {400u, 2'000u, 5'000u, 20'000u}) {
    // The number of emptied parts, of sixty-four parts of all fingerprints.
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

template <size_t kRecordBytes>
void testRecordsOf(uint64_t seed) {
  std::printf("table: records of %zu bytes\n", kRecordBytes);
  testAgainstModel<kRecordBytes>(seed);
  testInsertsWithoutMemory<kRecordBytes>(seed);
  testReplacingWherePartIsEmpty<kRecordBytes>(seed);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("table: seed %llu\n", static_cast<unsigned long long>(seed));
  testRecordsOf<32>(seed);
  testRecordsOf<64>(seed);
  testRecordsOf<128>(seed);
  testSamples(seed);
  testReplacingInAPage(seed);
  testKeysThatCollide();
  testChosenKeys(seed);
  testErasingInOrder(seed);
  testGrowingWherePartIsEmpty(seed);
  testMemory();
  std::puts("table: passed");
}
