// The table alone, against std::unordered_map, and the fingerprint against SipHash's published
// vectors. .ci/run builds it with sanitizers.

#include "../../native/table.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <unordered_map>
#include <vector>

using relay_limiter::Fingerprint;
using relay_limiter::Secret;
using relay_limiter::Table;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

struct alignas(32) Record {
  Fingerprint fingerprint;
  uint64_t value;
};

struct Hash {
  size_t operator()(const Fingerprint& print) const { return print.low ^ print.high; }
};

using Model = std::unordered_map<Fingerprint, uint64_t, Hash>;

class Pair {
 public:
  explicit Pair(uint64_t seed) : random_(seed) {}

  void insert() {
    const Fingerprint print{random_(), random_()};
    if (table_.find(print) != nullptr) return;
    Record* record = table_.insert(print);
    require(record != nullptr, "insert finds a place");
    record->value = random_();
    model_[print] = record->value;
    prints_.push_back(print);
  }

  void erase() {
    if (prints_.empty()) return;
    std::swap(prints_[random_() % prints_.size()], prints_.back());
    const Fingerprint print = prints_.back();
    prints_.pop_back();
    Record* record = table_.find(print);
    require((record != nullptr) == (model_.count(print) == 1), "both have it or neither");
    if (record == nullptr) return;
    table_.erase(record);
    model_.erase(print);
    require(table_.find(print) == nullptr, "what was erased is gone");
  }

  // Erases every record whose value is a multiple of `divisor`, segment by segment, while others
  // come.
  void sweep(uint64_t divisor) {
    uint64_t cursor = 0;
    bool more = true;
    while (more) {
      more = table_.sweep(cursor, [&](Record& record) {
        if (record.value % divisor != 0) return false;
        require(model_.erase(record.fingerprint) == 1, "the sweep meets only what is there");
        return true;
      });
      insert();
    }
  }

  void compare() {
    require(table_.size() == model_.size(), "sizes agree");
    for (const auto& [print, value] : model_) {
      const Record* record = table_.find(print);
      require(record != nullptr && record->value == value, "every record is within reach");
    }
    for (int i = 0; i < 1000; ++i) {
      require(table_.find({random_(), random_()}) == nullptr, "strangers are not there");
    }
    size_t visited = 0;
    table_.forEach([&](Record& record) {
      ++visited;
      require(model_.count(record.fingerprint) == 1, "visits what is there");
    });
    require(visited == model_.size(), "visits everything once");
  }

  void clear() {
    table_.clear();
    model_.clear();
    prints_.clear();
    require(table_.memoryBytes() == 0, "clear gives everything back");
  }

  size_t size() const { return model_.size(); }
  size_t memory() const { return table_.memoryBytes(); }

 private:
  std::mt19937_64 random_;
  Table<Record> table_;
  Model model_;
  std::vector<Fingerprint> prints_;
};

void testAgainstModel(uint64_t seed) {
  std::mt19937_64 random(seed);
  Pair pair(seed);
  constexpr size_t kTargets[] = {500, 30, 100'000, 20'000, 60'000, 0, 300'000, 10};
  for (const size_t target : kTargets) {
    while (pair.size() != target) {
      const bool grow = pair.size() < target;
      if (random() % 4 != 0 ? grow : !grow) {
        pair.insert();
      } else {
        pair.erase();
      }
    }
    pair.compare();
    if (target > 50'000) pair.sweep(2 + random() % 3);
    pair.compare();
  }
  require(pair.memory() < 600'000, "what a flood took is given back");
  pair.clear();
  pair.insert();
  pair.compare();
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
  Table<Record> table;
  size_t inserted = 0;
  while (inserted < 100'000) {
    Record* record = table.insert({42, random()});
    if (record == nullptr) break;
    record->value = ++inserted;
  }
  require(inserted >= 480, "a page of them fits");
  require(inserted < 1000, "more are refused");
  require(table.size() == inserted, "a refusal changes nothing");
  size_t visited = 0;
  table.forEach([&](Record&) { ++visited; });
  require(visited == inserted, "all of them are still there");
}

void testFingerprint() {
  // The 128-bit vectors of the SipHash authors: key 00 01 .. 0f, messages of 0 to 63 bytes 00 01 ..
  struct {
    size_t length;
    uint64_t low, high;
  } const vectors[] = {
      {0, 0xe6a825ba047f81a3u, 0x930255c71472f66du},
      {1, 0x44af996bd8c187dau, 0x45fc229b11597634u},
      {2, 0xc75da4a48d227781u, 0xe4ff0af6de8ba3fcu},
      {3, 0x4ea967520cb6709cu, 0x51ed8529b0b6335fu},
  };
  unsigned char message[64];
  for (unsigned i = 0; i < 64; ++i) message[i] = static_cast<unsigned char>(i);
  const Secret secret{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  for (const auto& vector : vectors) {
    const auto print = relay_limiter::siphash::hash<2, 4>(message, vector.length, secret);
    require(print == Fingerprint{vector.low, vector.high}, "SipHash-2-4-128 as published");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("table: seed %llu\n", static_cast<unsigned long long>(seed));
  testFingerprint();
  testAgainstModel(seed);
  testKeysThatCollide();
  testMemory();
  std::puts("table: passed");
}
