// Tests BasicClock on simulated time: whatever the processor's counter does, results never step
// back, are never ahead of the system's clock, and lag behind it for a bounded number of calls
// only.

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
  static uint64_t maxAgeTicks() noexcept { return 1 << 16; }
};

double SimulatedTime::systemSeconds = 1000;
uint64_t SimulatedTime::counter = 1 << 20;
unsigned SimulatedTime::readings = 0;

using TestClock = relay_limiter::BasicClock<SimulatedTime>;

// Advances the simulated time. The counter's rate, `ticksPerSecond`, may be negative.
void advance(double seconds, double ticksPerSecond) {
  SimulatedTime::systemSeconds += seconds;
  const double ticks = seconds * ticksPerSecond;
  SimulatedTime::counter += static_cast<uint64_t>(static_cast<int64_t>(ticks));
}

// Returns the number of calls until a result is the system's time; `most` + 1 if there is none
// within `most` calls.
unsigned callsUntilCurrent(TestClock& clock, unsigned most) {
  for (unsigned calls = 1; calls <= most; ++calls) {
    if (clock.now() == SimulatedTime::systemSeconds) return calls;
  }
  return most + 1;
}

void theFirstCallReadsTheSystemClock() {
  TestClock clock;
  require(clock.now() == SimulatedTime::systemSeconds, "the first call reads the system's clock");
}

void manyCallsReadTheSystemClockOnceInThirtyTwo() {
  TestClock clock;
  SimulatedTime::readings = 0;
  for (int i = 0; i < 3200; ++i) {
    advance(100e-9, 3e9);
    clock.now();
  }
  require(SimulatedTime::readings == 100, "3,200 calls read the system's clock 100 times");
}

void aResultHasAMaximumAge() {
  TestClock clock;
  for (int i = 0; i < 1000; ++i) {
    advance(10e-6, 3e9);
    require(SimulatedTime::systemSeconds - clock.now() < 22e-6,
            "a result is at most 65,536 ticks old: 22 microseconds at 3 GHz");
  }
}

void aPauseThatOnlyTheCounterCountsIsNoticedAtOnce() {
  TestClock clock;
  for (int i = 0; i < 100; ++i) {
    advance(1e-6, 3e9);
    clock.now();
  }
  SimulatedTime::systemSeconds += 100e-6;
  SimulatedTime::counter += uint64_t{9'000'000'000};
  require(clock.now() == SimulatedTime::systemSeconds, "the first result after a pause is current");
  advance(1e-3, 3e9);
  require(clock.now() == SimulatedTime::systemSeconds, "a result a millisecond later is current");
}

void aCounterThatStandsStillDelaysFewCalls() {
  TestClock clock;
  clock.now();
  advance(3600, 0);
  require(callsUntilCurrent(clock, 1000) <= TestClock::kReuses + 1,
          "a result is current within 32 calls, although the counter stands still for an hour");
}

void aCounterThatStepsBackIsNotTrusted() {
  TestClock clock;
  clock.now();
  advance(1, -3e9);
  require(clock.now() == SimulatedTime::systemSeconds,
          "the first result after the counter has stepped back is current");
}

// Simulates cores with arbitrarily different counters, and a counter that changes its rate
// arbitrarily.
void resultsNeverStepBackAndAreNeverAhead() {
  std::mt19937_64 random(20261129);
  TestClock clock;
  double last = clock.now();
  unsigned stale = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double rate = std::ldexp(1.0, static_cast<int>(random() % 64) - 10);
    const double seconds = std::ldexp(1.0, -static_cast<int>(random() % 32));
    advance(seconds, random() % 8 == 0 ? -rate : rate);
    if (random() % 16 == 0) SimulatedTime::counter = random();
    const double now = clock.now();
    require(now >= last, "a result never steps back");
    require(now <= SimulatedTime::systemSeconds, "a result is never ahead of the system's clock");
    stale = now == SimulatedTime::systemSeconds ? 0 : stale + 1;
    require(stale <= TestClock::kReuses, "at most kReuses results in a row are old");
    last = now;
  }
}

void theRealClockAgreesWithTheSystemClock() {
  relay_limiter::Clock clock;
  double last = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double now = clock.now();
    require(now >= last, "the real clock never steps back");
    last = now;
  }
  require(last <= relay_limiter::monotonicSeconds(),
          "the real clock is never ahead of the system's clock");
}

}  // namespace

int main() {
  theFirstCallReadsTheSystemClock();
  manyCallsReadTheSystemClockOnceInThirtyTwo();
  aResultHasAMaximumAge();
  aPauseThatOnlyTheCounterCountsIsNoticedAtOnce();
  aCounterThatStandsStillDelaysFewCalls();
  aCounterThatStepsBackIsNotTrusted();
  resultsNeverStepBackAndAreNeverAhead();
  theRealClockAgreesWithTheSystemClock();
  std::puts("clock-test: passed");
  return 0;
}
