// Monotonic time: the system's clock, and a clock that is cheaper for many readings in a short
// time.
#pragma once

#include <chrono>
#include <cstdint>
#if defined(__linux__)
#include <time.h>
#endif

#include "../memory/compiler.h"

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#elif defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

namespace relay_limiter {

// Seconds since a fixed instant; never steps back. A call takes about 27 ns.
inline double monotonicSeconds() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// The same, with the time for which the machine slept. Linux leaves that out of its monotonic
// clock; macOS and Windows count it.
inline double secondsWithSleep() noexcept {
#if defined(__linux__) && defined(CLOCK_BOOTTIME)
  timespec now;
  if (clock_gettime(CLOCK_BOOTTIME, &now) == 0) {
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
  }
#endif
  return monotonicSeconds();
}

// The system's clock and the processor's counter.
struct SystemTime {
  static double seconds() noexcept { return monotonicSeconds(); }

  // The processor's counter, which may count at any rate; always 0 if there is none that is cheap
  // to read.
  static uint64_t ticks() noexcept {
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
    return __rdtsc();
#elif defined(__aarch64__) && !defined(_MSC_VER)
    uint64_t ticks;
    asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
  }

  // The maximum age of a reading that may be used again, in ticks of the counter. They take about
  // 10 to 65 microseconds. 0 if there is no counter.
  static uint64_t maxAgeTicks() noexcept {
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
    return kMostTicks;  // 13 to 65 microseconds at 1 to 5 GHz
#elif defined(__aarch64__) && !defined(_MSC_VER)
    uint64_t ticksPerSecond;
    asm volatile("mrs %0, cntfrq_el0" : "=r"(ticksPerSecond));
    const uint64_t ticks = ticksPerSecond / 20000;
    return ticks < kMostTicks ? ticks : kMostTicks;
#else
    return 0;
#endif
  }

 private:
  static constexpr uint64_t kMostTicks = uint64_t{1} << 16;
};

// A clock for calls that follow each other within nanoseconds. It returns the last reading of the
// system's clock again up to kReuses times, as long as the processor's counter says that the
// reading is recent. Such a call takes about 10 ns.
//
// Every result is a true reading, so the clock never steps back and is never ahead of the system's
// clock. The counter only limits the age of a reading: to 65 microseconds if it counts correctly.
// If it jumps, as after a pause that the system's clock does not count, or differs between cores,
// the system's clock is read sooner. If it is slow or stands still, the system's clock is read
// after kReuses results.
template <class Source>
class BasicClock {
 public:
  static constexpr unsigned kReuses = 31;

  double now() noexcept {
    // The difference is unsigned: a counter that stepped back seems to be far ahead.
    if (Source::ticks() - ticks_ < maxAgeTicks_ && reuses_ != 0) {
      --reuses_;
      return seconds_;
    }
    return read();
  }

 private:
  RELAY_LIMITER_NOINLINE double read() noexcept {
    // The counter is read first: if the thread is interrupted between the two readings, this one
    // is only used for a shorter time.
    ticks_ = Source::ticks();
    seconds_ = Source::seconds();
    reuses_ = kReuses;
    return seconds_;
  }

  uint64_t ticks_ = 0;
  double seconds_ = 0;
  // How often the reading may still be used again.
  unsigned reuses_ = 0;
  const uint64_t maxAgeTicks_ = Source::maxAgeTicks();
};

using Clock = BasicClock<SystemTime>;

}  // namespace relay_limiter
