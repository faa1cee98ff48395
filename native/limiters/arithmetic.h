// The token bucket and elapsed time; nothing else. Twin of lib/engine/js/arithmetic.ts: same names,
// same order of operations, so that both engines agree to the last bit. IEEE doubles, one rounding
// an operation (built with -ffp-contract=off); a division stays a division.
#pragma once

#include <limits>

namespace relay_limiter {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An instant before every other: "has not happened".
constexpr double kNever = -kInfinity;

// Seconds from `then` to `now`; 0 if the clock has stepped back.
inline double elapsed(double now, double then) noexcept { return now > then ? now - then : 0.0; }

// Seconds until `duration` is over, of which `passed` have passed.
inline double secondsLeft(double duration, double passed) noexcept {
  return passed < duration ? duration - passed : 0.0;
}

// Refills, then takes `cost` if it is there. `rate` is in tokens a second. `lastRefill` moves at
// each consume, refused or not.
inline bool consume(double& tokens, double& lastRefill, double cost, double now, double rate,
                    double capacity) noexcept {
  const double seconds = elapsed(now, lastRefill);
  const double refilled = tokens + seconds * rate;
  lastRefill = now;
  // Written so that a NaN, should there ever be one, fills the bucket instead of opening it for
  // good.
  tokens = refilled < capacity ? refilled : capacity;
  if (!(tokens >= cost)) return false;
  tokens -= cost;
  return true;
}

// Tokens after a refill, without taking any.
inline double refill(double tokens, double lastRefill, double now, double rate,
                     double capacity) noexcept {
  const double refilled = tokens + elapsed(now, lastRefill) * rate;
  return refilled < capacity ? refilled : capacity;
}

// Seconds until `cost` tokens are there, as of the last refill; infinity if they cannot be.
inline double delaySeconds(double tokens, double cost, double rate, double capacity) noexcept {
  if (tokens >= cost) return 0.0;
  return cost > capacity ? kInfinity : (cost - tokens) / rate;
}

// Seconds until the bucket is full, if nothing is taken; 0 if it is.
inline double secondsUntilFull(double tokens, double lastRefill, double now, double rate,
                               double capacity) noexcept {
  const double missing = capacity - (tokens + elapsed(now, lastRefill) * rate);
  return missing > 0 ? missing / rate : 0.0;
}

}  // namespace relay_limiter
