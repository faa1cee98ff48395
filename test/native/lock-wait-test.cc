// How long calls wait for a lock, on a virtual clock. .ci/run builds it with sanitizers.

#include "../../native/shared/lock-wait.h"

#include <cstdio>
#include <initializer_list>

#include "require.h"

using namespace relay_limiter;

namespace {

constexpr uint64_t kHolder = uint64_t{3} << 48 | 7;

// Waits for the same holder from `begin`, in steps, until the call gives up. Returns how long.
double waitFor(uint64_t holder, std::atomic<uint64_t>& mark, Patience patience, double begin) {
  LockWait wait(patience);
  for (unsigned n = 0; n < 100000; ++n) {
    const double now = begin + n * 0.0005;
    wait.meet(holder, mark, now);
    if (wait.isOver()) return now - begin;
  }
  require(false, "a call gives up");
  return 0;
}

bool isAbout(double actual, double expected) {
  return actual > expected - 0.002 && actual < expected + 0.002;
}

void testPatience(double begin) {
  std::atomic<uint64_t> mark{0};
  require(isAbout(waitFor(kHolder, mark, Patience::kShort, begin), 0.2), "a check waits 0.2 s");
  require(isAbout(waitFor(kHolder, mark, Patience::kShort, begin + 0.2), 0), "checks wait once");
  require(isAbout(waitFor(kHolder, mark, Patience::kLong, begin + 0.3), 0.7),
          "other calls wait until a second is over");
  require(isAbout(waitFor(kHolder, mark, Patience::kLong, begin + 1), 0), "and once, too");
  // The next acquisition by the same limiter, and one by another limiter with the same sequence.
  for (const uint64_t other : {kHolder + 1, kHolder + (uint64_t{1} << 48)}) {
    require(isAbout(waitFor(other, mark, Patience::kLong, begin + 5), 1), "it has a second again");
  }
}

// Each lock word is waited for anew, whatever the mark was before. The first word has halves that
// are equal; the halves of the other two differ in the same bits.
void testNames() {
  std::atomic<uint64_t> mark{0};
  const uint64_t equalHalves = uint64_t{1} << 48 | uint64_t{1} << 32 | 0x10001;
  require(isAbout(waitFor(equalHalves, mark, Patience::kShort, 1000), 0.2),
          "a word with equal halves is not that of a new lock");
  const uint64_t one = uint64_t{1} << 48 | 0x30000;
  const uint64_t other = uint64_t{2} << 48;
  waitFor(one, mark, Patience::kLong, 2000);
  require(isAbout(waitFor(other, mark, Patience::kShort, 3000), 0.2),
          "the mark of one limiter is not that of another");
  for (uint64_t word = kHolder; word < kHolder + 100000; ++word) {
    LockWait wait(Patience::kShort);
    wait.meet(word, mark, 4000 + static_cast<double>(word - kHolder));
    require(!wait.isOver(), "words that follow each other have different names");
  }
}

// A clock that is behind the one which has set the mark.
void testClockBehind() {
  std::atomic<uint64_t> mark{0};
  LockWait(Patience::kShort).meet(kHolder, mark, 100);
  require(isAbout(waitFor(kHolder, mark, Patience::kShort, 99.99), 0.21),
          "the time before the mark does not count");
}

void testManyHolders() {
  std::atomic<uint64_t> mark{0};
  for (const Patience patience : {Patience::kShort, Patience::kLong}) {
    LockWait wait(patience);
    unsigned n = 0;
    do {
      wait.meet(kHolder + n, mark, 50 + n * 0.0005);
    } while (!wait.isOver() && ++n < 10000);
    require(isAbout(n * 0.0005, 1), "a call that never gets the lock waits for a second");
  }
}

void testAsking() {
  std::atomic<uint64_t> mark{0};
  LockWait wait(Patience::kShort);
  unsigned asked = 0;
  for (unsigned n = 0; n < 100; ++n) {
    wait.meet(kHolder, mark, 7 + n * 0.0001);
    if (!wait.mustAsk()) continue;
    ++asked;
    require(!wait.mustAsk(), "the system is asked once at a time");
    require(n >= 9, "it is not asked in the first millisecond");
  }
  require(asked >= 8 && asked <= 10, "it is asked once in a millisecond");
  LockWait later(Patience::kShort);
  later.meet(kHolder, mark, 8);
  require(later.mustAsk(), "a call asks before it gives up at once");
}

}  // namespace

int main() {
  testPatience(1000);
  // Here the milliseconds of a mark begin again.
  testPatience(4294967.2);
  testPatience(0);
  testNames();
  testClockBehind();
  testManyHolders();
  testAsking();
  std::puts("lock wait: passed");
}
