// Time: the system's monotonic clock, and a cheaper way to read it many times a millisecond.
#pragma once

#include <chrono>
#include <cstdint>

#include "apart.h"

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#elif defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

namespace relay_limiter {

// Monotonic seconds since some fixed instant. About 27 ns.
inline double monotonicSeconds() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// The processor's counter, at whatever rate it counts; 0 where there is none that is cheap to read.
inline uint64_t processorTicks() noexcept {
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

// Reads the system's clock at most once in a quarter of a millisecond, and counts the processor's
// ticks in between: about 10 ns. Nothing is asked of the counter, neither a steady rate nor
// agreement between cores: whatever it does, the answer is never more than that quarter ahead of
// the system's clock, and behind it only by what the counter failed to count. It may step back by a
// little, which the limiters take for no time at all.
class Clock {
 public:
  double now() noexcept {
    const uint64_t since = processorTicks() - ticks_;
    return since < window_ ? seconds_ + static_cast<double>(since) * secondsPerTick_ : read();
  }

 private:
  static constexpr double kWindow = 0.00025;
  // Over less than this the rate of the counter cannot be told.
  static constexpr double kShortest = 0.00005;

  RELAY_LIMITER_APART double read() noexcept {
    const uint64_t ticks = processorTicks();
    const double seconds = monotonicSeconds();
    const double passed = seconds - seconds_;
    if (ticks_ != 0 && passed < kShortest) return seconds;
    const auto since = static_cast<double>(ticks - ticks_);
    // A counter that went back, or by more than any does in years, is not worth a guess.
    const bool counts = ticks_ != 0 && ticks > ticks_ && since < 1e18;
    secondsPerTick_ = counts ? passed / since : 0;
    window_ = counts ? static_cast<uint64_t>(kWindow / passed * since) : 0;
    ticks_ = ticks;
    seconds_ = seconds;
    return seconds;
  }

  uint64_t ticks_ = 0;
  uint64_t window_ = 0;
  double seconds_ = 0;
  double secondsPerTick_ = 0;
};

}  // namespace relay_limiter
