// The arithmetic of token buckets and elapsed time. Counterpart of lib/tables/arithmetic.ts. All
// numbers are IEEE doubles and each operation rounds once: the build sets -ffp-contract=off, and a
// division must not become a multiplication.
#pragma once

#include <atomic>
#include <limits>

namespace relay_limiter {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Stands for the time of an event that has not happened.
constexpr double kNever = -kInfinity;

// A bucket or an interval that is back in its initial state within so many seconds is not saved in
// a snapshot.
constexpr double kSnapshotSeconds = 10;

// Seconds from `then` to `now`; 0 if the clock has stepped back.
inline double elapsed(double now, double then) noexcept { return now > then ? now - then : 0.0; }

// The rest of a duration of which `passed` seconds are over.
inline double secondsLeft(double duration, double passed) noexcept {
  return passed < duration ? duration - passed : 0.0;
}

// Keeps the compiler from moving a write before an earlier one. If a process ends between two
// writes to shared memory, others find the first without the second.
inline void keepOrderOfWrites() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

// Refills a bucket, then takes `cost` tokens if it has them. `rate` is in tokens per second. A
// refused call moves `lastRefill` too.
inline bool consume(double& tokens, double& lastRefill, double cost, double now, double rate,
                    double capacity) noexcept {
  const double seconds = elapsed(now, lastRefill);
  const double refilled = tokens + seconds * rate;
  lastRefill = now;
  // The other order would refill the same span again.
  keepOrderOfWrites();
  // Written so that a NaN, if there ever were one, fills the bucket and does not stay in it.
  tokens = refilled < capacity ? refilled : capacity;
  if (!(tokens >= cost)) return false;
  tokens -= cost;
  return true;
}

// The tokens of a bucket after a refill at `now`.
inline double refill(double tokens, double lastRefill, double now, double rate,
                     double capacity) noexcept {
  const double refilled = tokens + elapsed(now, lastRefill) * rate;
  return refilled < capacity ? refilled : capacity;
}

// Seconds from the last refill until a bucket has `cost` tokens; infinity if it never can.
inline double delaySeconds(double tokens, double cost, double rate, double capacity) noexcept {
  if (tokens >= cost) return 0.0;
  return cost > capacity ? kInfinity : (cost - tokens) / rate;
}

// Seconds from `now` until a bucket is full if nothing is taken; 0 if it is full.
inline double secondsUntilFull(double tokens, double lastRefill, double now, double rate,
                               double capacity) noexcept {
  const double missing = capacity - (tokens + elapsed(now, lastRefill) * rate);
  return missing > 0 ? missing / rate : 0.0;
}

}  // namespace relay_limiter
