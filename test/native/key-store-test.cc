// The store of names alone: random texts against a std::unordered_map, without memory, and whether
// memory goes back. .ci/run builds it with sanitizers.

#include "../../native/memory/key-store.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "require.h"
#include "test-memory.h"

using relay_limiter::StoredKey;

namespace {

std::u16string textOf(const StoredKey& name) {
  return name.read([](const auto* text, size_t length) {
    std::u16string units;
    for (size_t i = 0; i < length; ++i) {
      using Unit = std::remove_const_t<std::remove_pointer_t<decltype(text)>>;
      units.push_back(static_cast<std::make_unsigned_t<Unit>>(text[i]));
    }
    return units;
  });
}

size_t bytesOf(const std::u16string& text) {
  const bool wide = std::any_of(text.begin(), text.end(), [](char16_t unit) { return unit > 255; });
  return text.size() * (wide ? 2 : 1);
}

class NamesModel {
 public:
  explicit NamesModel(uint64_t seed) : random_(seed) {}

  size_t held() const { return model_.size(); }
  size_t memory() const { return names_.memoryBytes(); }

  // Lengths and units of all kinds; those at which a size of slots ends more often than others.
  std::u16string anyText() {
    static constexpr size_t kEdges[] = {0, 1, 15, 16, 17, 31, 32, 33, 64, 65, 128, 129, 256, 257};
    size_t length = below(2) == 0 ? kEdges[below(std::size(kEdges))] : below(300);
    if (below(100) == 0) length = 20'000;
    std::u16string text(length, u'\0');
    for (char16_t& unit : text) unit = static_cast<char16_t>(below(256));
    // A unit of two bytes anywhere makes the whole text wide.
    if (below(2) == 0 && !text.empty()) {
      static constexpr char16_t kWide[] = {0x100, 0xd800, 0xffff};
      text[below(text.size())] = kWide[below(std::size(kWide))];
    }
    return text;
  }

  bool add(const std::u16string& text) {
    const size_t before = memory();
    const size_t reserved = TestMemory::reserved;
    StoredKey name{};
    require(!name, "zeros are no name");
    // Read to its end and no further: a text lies alone on the heap, without a NUL behind it.
    const std::vector<char16_t> units(text.begin(), text.end());
    if (!names_.add(units.data(), units.size(), name)) {
      require(!name, "a refusal gives no name");
      require(TestMemory::reserved == reserved, "a refusal takes no addresses");
      require(memory() - before <= 64 * 1024, "nor memory, but for numbers of pages to come");
      return false;
    }
    require(name && textOf(name) == text, "a name is the text that was added");
    require(name.isTwoByte == (bytesOf(text) > text.size()), "a byte a unit where that will do");
    require(reinterpret_cast<uintptr_t>(name.text) % alignof(char16_t) == 0, "units are aligned");
    least_ += sizeOf(text);
    model_.emplace(++last_, Entry{name, text});
    keys_.push_back(last_);
    requireMemory();
    return true;
  }

  void removeRandom() {
    std::swap(keys_[below(keys_.size())], keys_.back());
    removeLast();
  }

  void removeLast() {
    const auto entry = model_.find(keys_.back());
    require(textOf(entry->second.name) == entry->second.text, "nobody else wrote to a text");
    const size_t before = memory();
    names_.remove(entry->second.name);
    require(memory() <= before, "removing takes no memory");
    least_ -= sizeOf(entry->second.text);
    model_.erase(entry);
    keys_.pop_back();
    requireMemory();
  }

  void compare() const {
    for (const auto& [key, entry] : model_) {
      require(textOf(entry.name) == entry.text, "texts stay as they are");
    }
  }

  void clear() {
    compare();
    names_.clear();
    model_.clear();
    keys_.clear();
    least_ = 0;
    requireMemory();
  }

 private:
  struct Entry {
    StoredKey name;
    std::u16string text;
  };

  static size_t sizeOf(const std::u16string& text) {
    const size_t bytes = bytesOf(text);
    for (size_t size = 32; size <= 256; size *= 2) {
      if (bytes <= size) return size;
    }
    return bytes;
  }

  size_t below(size_t end) { return static_cast<size_t>(random_() % end); }

  void requireMemory() const {
    require(memory() >= least_, "every text is counted");
    if (!model_.empty()) return;
    require(memory() == 0 && TestMemory::reserved == 0, "an empty store takes nothing");
  }

  std::mt19937_64 random_;
  relay_limiter::KeyStore<TestMemory> names_;
  std::unordered_map<uint64_t, Entry> model_;
  std::vector<uint64_t> keys_;
  uint64_t last_ = 0;
  // What the texts take in slots of their sizes, or alone.
  size_t least_ = 0;
};

void testAgainstModel(uint64_t seed) {
  std::mt19937_64 random(seed);
  NamesModel model(seed);
  constexpr size_t kTargets[] = {3, 0, 500, 20'000, 100, 5'000, 0, 2'000};
  for (const size_t target : kTargets) {
    while (model.held() != target) {
      const bool grow = model.held() < target;
      if (model.held() == 0 || (random() % 4 != 0 ? grow : !grow)) {
        require(model.add(model.anyText()), "there is memory");
      } else {
        model.removeRandom();
      }
    }
    model.compare();
  }
  model.clear();
  require(model.add(u"once more"), "a cleared store takes texts again");
}

// Each add is tried with its first allocation failing, then its second, until it needs no more.
void testWithoutMemory(uint64_t seed) {
  NamesModel model(seed);
  unsigned failures = 0;
  while (model.held() < 5'000) {
    const std::u16string text = model.anyText();
    for (unsigned n = 0;; ++n, ++failures) {
      allocationsLeft = n;
      const bool added = model.add(text);
      allocationsLeft = kNoneFails;
      if (added) break;
    }
  }
  std::printf("names: %u adds failed for want of memory\n", failures);
  require(failures > 500, "long texts and new slabs need memory");
  model.compare();
  allocationsLeft = 0;
  allOfThemFail = true;
  while (model.held() > 0) model.removeRandom();
  allocationsLeft = kNoneFails;
  allOfThemFail = false;
}

// Texts of one size take no more than their slots, the head of each shelf, and of each chunk; and
// whoever came last may go first, or the other way round.
void testMemory(uint64_t seed, size_t length, size_t slot) {
  NamesModel model(seed);
  constexpr size_t kTexts = 20'000;
  while (model.held() < kTexts) model.add(std::u16string(length, u'x'));
  const double bytes = static_cast<double>(model.memory()) / kTexts;
  std::printf("names: %.1f bytes for a text of %zu\n", bytes, length);
  require(bytes < static_cast<double>(slot) * 1.02 + 1.5, "a text takes its slot");
  while (model.held() > kTexts / 2) model.removeLast();
  require(model.memory() < kTexts / 2 * slot * 103 / 100 + 40'000, "half of it is half the memory");
}

// One of the heap's is counted to the byte, but for its head.
void testLong() {
  NamesModel model(1);
  model.add(std::u16string(5'000, u'\u4e00'));
  require(model.memory() > 10'000 && model.memory() <= 10'000 + 3 * sizeof(void*),
          "two bytes each");
  model.add(std::u16string(7'000, u'x'));
  require(model.memory() <= 17'000 + 6 * sizeof(void*), "or one");
  model.removeRandom();
  model.removeRandom();
}

void testTooLong() {
  relay_limiter::KeyStore<TestMemory> names;
  StoredKey name{};
  const char16_t unit = u'x';
  require(!names.add(&unit, SIZE_MAX, name) && !name, "a length that no text has is refused");
  names.remove(name);
  require(names.memoryBytes() == 0, "to remove no name does nothing");
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("names: seed %llu\n", static_cast<unsigned long long>(seed));
  testLong();
  testTooLong();
  testAgainstModel(seed);
  testWithoutMemory(seed);
  testMemory(seed, 21, 32);
  testMemory(seed, 62, 64);
  testMemory(seed, 128, 128);
  testMemory(seed, 256, 256);
  std::puts("names: passed");
}
