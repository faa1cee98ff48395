// EvictionCost says what is lost if a peer is evicted, and orders peers by it. A peer is fresh if
// its state equals that of a new peer; evicting it loses nothing.
#pragma once

#include <cstdint>

#include "arithmetic.h"

namespace relay_limiter {

// The peer with the lowest cost is evicted first.
struct EvictionCost {
  // Whether the peer has violations that its next check would not clear.
  bool isOffender;
  uint64_t violations;
  // Orders peers with equal violations. For a clean peer: the seconds until it is fresh, 0 if it is
  // already. For an offender: minus the seconds since it was active.
  double tieBreaker;

  static constexpr EvictionCost ofClean(double secondsUntilFresh) noexcept {
    return {false, 0, secondsUntilFresh};
  }
  static constexpr EvictionCost ofOffender(uint64_t violations, double idleSeconds) noexcept {
    return {true, violations, -idleSeconds};
  }
  // The highest cost: a banned peer is never evicted, and may evict any other peer.
  static constexpr EvictionCost ofBanned() noexcept { return {true, UINT64_MAX, kInfinity}; }

  bool isZero() const noexcept { return !isOffender && tieBreaker <= 0; }
};

inline bool operator<(const EvictionCost& a, const EvictionCost& b) noexcept {
  if (a.isOffender != b.isOffender) return b.isOffender;
  return a.violations != b.violations ? a.violations < b.violations : a.tieBreaker < b.tieBreaker;
}

}  // namespace relay_limiter
