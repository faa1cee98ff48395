// The store of pages alone: random takes and gives against a model, without memory, and whether
// memory goes back to the system. .ci/run builds it with sanitizers.

#include "../../native/memory/page-allocator.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "require.h"
#include "test-memory.h"

namespace {

// Each page that is held bears its own mark in every byte, so that it shares none with another.
template <size_t kPageBytes, class Memory = TestMemory>
class PagesModel {
 public:
  explicit PagesModel(uint64_t seed) : random_(seed) {}
  ~PagesModel() { giveAll(); }

  size_t held() const { return held_.size(); }
  size_t memory() const { return pages_.memoryBytes(); }

  bool take() {
    const size_t before = memory();
    const size_t reserved = TestMemory::reserved;
    auto* page = static_cast<unsigned char*>(pages_.take());
    if (page == nullptr) {
      require(TestMemory::reserved == reserved, "a refusal takes no addresses");
      require(memory() - before <= 16 * held(), "nor memory, but for numbers to come");
      return false;
    }
    require(reinterpret_cast<uintptr_t>(page) % 64 == 0, "a page is aligned");
    requireFull(page, 0, "a page is zero when taken");
    require(memory() >= before + kPageBytes, "a page is counted");
    require(pages_.at(pages_.numberOf(page)) == page, "a page is found by its number");
    require(pages_.pageAround(page) == page, "and by what lies in it");
    require(pages_.pageAround(page + kPageBytes - 1) == page, "to its last byte");
    const auto mark = static_cast<unsigned char>(random_() % 255 + 1);
    std::memset(page, mark, kPageBytes);
    held_.push_back({page, mark});
    return true;
  }

  void giveRandom() {
    std::swap(held_[static_cast<size_t>(random_() % held_.size())], held_.back());
    giveLast();
  }

  void giveLast() {
    const size_t before = memory();
    requireFull(held_.back().page, held_.back().mark, "nobody else wrote to a page");
    const size_t number = pages_.numberOf(held_.back().page);
    require(pages_.at(number) == held_.back().page, "as long as it is held");
    pages_.give(held_.back().page);
    require(pages_.at(number) == nullptr, "and then no more");
    held_.pop_back();
    require(memory() <= before - kPageBytes, "a page given back is not counted");
  }

  // Memory must not come back where pages were given back.
  void requireHugeWhereFull() const {
    std::map<uintptr_t, size_t> pages;
    for (const Held& held : held_) {
      ++pages[reinterpret_cast<uintptr_t>(held.page) / Memory::kChunkBytes];
    }
    size_t full = 0;
    for (const auto& [chunk, count] : pages) {
      if (count < Memory::kChunkBytes / kPageBytes - 1) continue;
      ++full;
      require(Memory::huge.count(reinterpret_cast<void*>(chunk * Memory::kChunkBytes)) == 1,
              "a full chunk may become a huge page");
    }
    require(Memory::huge.size() == full, "and no other");
  }

  void giveAll() {
    for (const Held& held : held_) requireFull(held.page, held.mark, "pages stay as they are");
    pages_.giveAll();
    held_.clear();
    require(memory() == 0 && TestMemory::reserved == 0, "all goes back");
  }

 private:
  struct Held {
    unsigned char* page;
    unsigned char mark;
  };

  static void requireFull(const unsigned char* page, unsigned char of, const char* what) {
    require(page[0] == of && std::memcmp(page, page + 1, kPageBytes - 1) == 0, what);
  }

  std::mt19937_64 random_;
  relay_limiter::PageAllocator<kPageBytes, Memory> pages_;
  std::vector<Held> held_;
};

template <size_t kPageBytes>
void testAgainstModel(uint64_t seed) {
  std::mt19937_64 random(seed);
  PagesModel<kPageBytes> model(seed);
  constexpr size_t kTargets[] = {5, 0, 40, 1000, 20, 700, 1500, 3, 200, 0, 300};
  for (const size_t target : kTargets) {
    while (model.held() != target) {
      const bool grow = model.held() < target;
      if (model.held() == 0 || (random() % 4 != 0 ? grow : !grow)) {
        require(model.take(), "there is memory");
      } else {
        model.giveRandom();
      }
      if (random() % 64 == 0) model.requireHugeWhereFull();
    }
    model.requireHugeWhereFull();
  }
  while (model.held() > 0) model.giveRandom();
  require(model.memory() == 0 && TestMemory::reserved == 0, "an empty store takes nothing");
  for (int i = 0; i < 500; ++i) require(model.take(), "an emptied store gives again");
}

// Each take is tried with its first allocation failing, then its second, until it needs no more.
void testWithoutMemory(uint64_t seed) {
  PagesModel<16 * 1024> model(seed);
  unsigned failures = 0;
  while (model.held() < 400) {
    for (unsigned n = 0;; ++n, ++failures) {
      allocationsLeft = n;
      const bool taken = model.take();
      allocationsLeft = kNoneFails;
      if (taken) break;
    }
  }
  std::printf("pages: %u takes failed for want of memory\n", failures);
  require(failures > 400, "each take needs memory");
  allocationsLeft = 0;
  allOfThemFail = true;
  while (model.held() > 1) model.giveRandom();
  allocationsLeft = kNoneFails;
  allOfThemFail = false;
  require(model.memory() <= 40 * 1024, "giving needs no memory");
}

void testSmall() {
  PagesModel<16 * 1024> model(1);
  while (model.held() < 8) require(model.take(), "there is memory");
  require(TestMemory::reserved == 0, "a small store maps no chunk");
}

// Without mmap only whole chunks go back, to a heap that sanitizers keep to themselves.
#if defined(__linux__) && !defined(RELAY_LIMITER_NO_MMAP)
// The system's memory, and how much of its chunks is resident. Of the process as a whole that would
// not be known: a sanitizer has memory of its own.
struct ResidentMemory : relay_limiter::SystemMemory {
  static inline std::set<void*> chunks;

  static void* reserve() noexcept {
    void* chunk = SystemMemory::reserve();
    if (chunk != nullptr) chunks.insert(chunk);
    return chunk;
  }

  static void release(void* chunk) noexcept {
    chunks.erase(chunk);
    SystemMemory::release(chunk);
  }

  static size_t bytes() {
    const auto pageBytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> pages(kChunkBytes / pageBytes);
    size_t resident = 0;
    for (void* chunk : chunks) {
      require(mincore(chunk, kChunkBytes, pages.data()) == 0, "the system says what is resident");
      for (const unsigned char page : pages) resident += page & 1;
    }
    return resident * pageBytes;
  }
};

// What a flood leaves: one page of ten, anywhere. (TestMemory's poison would be resident as well.)
void testResidentMemory(uint64_t seed) {
  constexpr size_t kFlood = 8'000;
  constexpr size_t kBytes = kFlood * 16 * 1024;
  PagesModel<16 * 1024, ResidentMemory> model(seed);
  while (model.held() < kFlood) require(model.take(), "there is memory");
  const size_t full = ResidentMemory::bytes();
  while (model.held() > kFlood / 10) model.giveRandom();
  const size_t tenth = ResidentMemory::bytes();
  while (model.held() > 1) model.giveRandom();
  const size_t none = ResidentMemory::bytes();
  std::printf("pages: %zu MB resident of %zu, %zu with a tenth of the pages, %zu with one\n",
              full >> 20, kBytes >> 20, tenth >> 20, none >> 20);
  // A machine that is short of memory may have swapped some out.
  require(full > kBytes / 2, "pages are memory");
  require(tenth < kBytes / 7, "a page goes back alone");
  require(none < kBytes / 50, "an empty chunk goes back");
}
#else
void testResidentMemory(uint64_t) {}
#endif

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("pages: seed %llu\n", static_cast<unsigned long long>(seed));
  testSmall();
  testAgainstModel<16 * 1024>(seed);
  testAgainstModel<32 * 1024>(seed);
  testWithoutMemory(seed);
  testResidentMemory(seed);
  std::puts("pages: passed");
}
