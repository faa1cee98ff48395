// Counters counts a limiter's verdicts and evictions since the limiter was created. Counterpart of
// lib/engine/js/counters.ts.
#pragma once

#include <cstdint>

#include "eviction-cost.h"
#include "verdict.h"

namespace relay_limiter {

struct Counters {
  uint64_t allowed = 0;
  uint64_t delayed = 0;
  uint64_t disconnected = 0;
  uint64_t bansBegun = 0;
  uint64_t evictions = 0;
  // Evictions that lost something: the evicted peer was not in its initial state.
  uint64_t lossyEvictions = 0;
  uint64_t refusedNewcomers = 0;

  // Counts the verdict of a check and returns it.
  Verdict count(Verdict verdict) noexcept {
    switch (verdict) {
      case Verdict::kAllowed:
        ++allowed;
        break;
      case Verdict::kNoRoom:
        ++refusedNewcomers;
        ++delayed;
        break;
      case Verdict::kRefused:
        ++delayed;
        break;
      case Verdict::kBanBegins:
        ++bansBegun;
        ++disconnected;
        break;
      case Verdict::kDisconnect:
        ++disconnected;
        break;
      case Verdict::kNeedsText:
      case Verdict::kNoMemory:
      case Verdict::kStalled:
        break;
    }
    return verdict;
  }

  void add(const Counters& other) noexcept {
    allowed += other.allowed;
    delayed += other.delayed;
    disconnected += other.disconnected;
    bansBegun += other.bansBegun;
    evictions += other.evictions;
    lossyEvictions += other.lossyEvictions;
    refusedNewcomers += other.refusedNewcomers;
  }

  void countEviction(const EvictionCost& cost) noexcept {
    ++evictions;
    if (!cost.isZero()) ++lossyEvictions;
  }
};

}  // namespace relay_limiter
