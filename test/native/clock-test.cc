// The clock on simulated time: whatever the processor's counter does, answers never step back, are
// never ahead of the system's clock, and are behind it only for a bounded number of calls.

#include "../../native/limiters/clock.h"

#include <cmath>
#include <cstdio>
#include <random>

#include "require.h"

namespace {

struct SimulatedTime {
  static double systemSeconds;
  static uint64_t counter;
  static unsigned readings;

  static double seconds() noexcept {
    ++readings;
    return systemSeconds;
  }
  static uint64_t ticks() noexcept { return counter; }
  static uint64_t shortWhile() noexcept { return 1 << 16; }
};

double SimulatedTime::systemSeconds = 1000;
uint64_t SimulatedTime::counter = 1 << 20;
unsigned SimulatedTime::readings = 0;

using TestClock = relay_limiter::BasicClock<SimulatedTime>;

// Lets time pass; the counter counts `ticksPerSecond`, which may be negative.
void pass(double seconds, double ticksPerSecond) {
  SimulatedTime::systemSeconds += seconds;
  const double ticks = seconds * ticksPerSecond;
  SimulatedTime::counter += static_cast<uint64_t>(static_cast<int64_t>(ticks));
}

// Calls until an answer is the system's time; at most `most`.
unsigned callsUntilRight(TestClock& clock, unsigned most) {
  for (unsigned calls = 1; calls <= most; ++calls) {
    if (clock.now() == SimulatedTime::systemSeconds) return calls;
  }
  return most + 1;
}

void theFirstAnswerIsTheSystems() {
  TestClock clock;
  require(clock.now() == SimulatedTime::systemSeconds, "the first answer is a reading");
}

void aBusyClockReadsTheSystemsClockOnceInManyCalls() {
  TestClock clock;
  SimulatedTime::readings = 0;
  for (int i = 0; i < 3200; ++i) {
    pass(100e-9, 3e9);
    clock.now();
  }
  require(SimulatedTime::readings == 100, "one reading in 32 calls");
}

void anAnswerIsAtMostAShortWhileOld() {
  TestClock clock;
  for (int i = 0; i < 1000; ++i) {
    pass(10e-6, 3e9);
    require(SimulatedTime::systemSeconds - clock.now() < 22e-6, "65,536 ticks at 3 GHz");
  }
}

void aPauseThatOnlyTheCounterCountsIsSeenAtOnce() {
  TestClock clock;
  for (int i = 0; i < 100; ++i) {
    pass(1e-6, 3e9);
    clock.now();
  }
  SimulatedTime::systemSeconds += 100e-6;
  SimulatedTime::counter += uint64_t{9'000'000'000};
  require(clock.now() == SimulatedTime::systemSeconds, "the first answer after the pause");
  pass(1e-3, 3e9);
  require(clock.now() == SimulatedTime::systemSeconds, "and a millisecond later");
}

void aCounterThatStandsStillHoldsUpFewCalls() {
  TestClock clock;
  clock.now();
  pass(3600, 0);
  require(callsUntilRight(clock, 1000) <= TestClock::kReuses + 1, "an hour in 32 calls");
}

void aCounterThatGoesBackIsNotTrusted() {
  TestClock clock;
  clock.now();
  pass(1, -3e9);
  require(clock.now() == SimulatedTime::systemSeconds, "a reading after a step back");
}

// Two cores whose counters differ by anything, and a counter whose rate changes by any factor.
void answersNeverStepBackAndAreNeverAhead() {
  std::mt19937_64 random(20261129);
  TestClock clock;
  double last = clock.now();
  unsigned stale = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double rate = std::ldexp(1.0, static_cast<int>(random() % 64) - 10);
    const double seconds = std::ldexp(1.0, -static_cast<int>(random() % 32));
    pass(seconds, random() % 8 == 0 ? -rate : rate);
    if (random() % 16 == 0) SimulatedTime::counter = random();
    const double now = clock.now();
    require(now >= last, "an answer stepped back");
    require(now <= SimulatedTime::systemSeconds, "an answer is ahead of the system's clock");
    stale = now == SimulatedTime::systemSeconds ? 0 : stale + 1;
    require(stale <= TestClock::kReuses, "more stale answers than allowed");
    last = now;
  }
}

void theRealClockAgreesWithTheSystems() {
  relay_limiter::Clock clock;
  double last = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double now = clock.now();
    require(now >= last, "the real clock stepped back");
    last = now;
  }
  require(last <= relay_limiter::monotonicSeconds(), "the real clock is ahead");
}

}  // namespace

int main() {
  theFirstAnswerIsTheSystems();
  aBusyClockReadsTheSystemsClockOnceInManyCalls();
  anAnswerIsAtMostAShortWhileOld();
  aPauseThatOnlyTheCounterCountsIsSeenAtOnce();
  aCounterThatStandsStillHoldsUpFewCalls();
  aCounterThatGoesBackIsNotTrusted();
  answersNeverStepBackAndAreNeverAhead();
  theRealClockAgreesWithTheSystems();
  std::puts("clock-test: passed");
  return 0;
}
