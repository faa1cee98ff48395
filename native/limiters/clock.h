// Monotonic time: the system's clock, and a cheaper way to read it many times in a short while.
#pragma once

#include <chrono>
#include <cstdint>

#include "../memory/compiler.h"

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#elif defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

namespace relay_limiter {

// Seconds since some fixed instant; never steps back. About 27 ns.
inline double monotonicSeconds() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// The clock and the counter of the machine.
struct SystemTime {
  static double seconds() noexcept { return monotonicSeconds(); }

  // The processor's counter, at whatever rate it counts; 0 if none is cheap to read.
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

  // Ticks that take some 10 to 65 microseconds; 0 if there is no counter.
  static uint64_t shortWhile() noexcept {
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
    return kMost;  // at 1 to 5 GHz
#elif defined(__aarch64__) && !defined(_MSC_VER)
    uint64_t ticksPerSecond;
    asm volatile("mrs %0, cntfrq_el0" : "=r"(ticksPerSecond));
    const uint64_t ticks = ticksPerSecond / 20000;
    return ticks < kMost ? ticks : kMost;
#else
    return 0;
#endif
  }

 private:
  static constexpr uint64_t kMost = uint64_t{1} << 16;
};

// A clock for calls that follow each other within nanoseconds. It returns a reading of the system's
// clock again while the processor's counter says that it is fresh, and at most kReuses times:
// about 10 ns. Every answer is a true reading, so the clock never steps back and is never ahead.
// The counter decides only how old a reading may get: 65 microseconds at most if it counts as it
// should. If it jumps, as after a pause that the system's clock leaves out, or differs between
// cores, the system's clock is read sooner; if it is slow or stands still, after kReuses answers.
template <class Source>
class BasicClock {
 public:
  static constexpr unsigned kReuses = 31;

  double now() noexcept {
    // Unsigned: a counter that went back is far ahead.
    if (Source::ticks() - ticks_ < shortWhile_ && reuses_ != 0) {
      --reuses_;
      return seconds_;
    }
    return read();
  }

 private:
  RELAY_LIMITER_NOINLINE double read() noexcept {
    // Before the clock: if the thread is held up in between, the reading counts as older.
    ticks_ = Source::ticks();
    seconds_ = Source::seconds();
    reuses_ = kReuses;
    return seconds_;
  }

  uint64_t ticks_ = 0;
  double seconds_ = 0;
  unsigned reuses_ = 0;
  const uint64_t shortWhile_ = Source::shortWhile();
};

using Clock = BasicClock<SystemTime>;

}  // namespace relay_limiter
