// Counters: what a limiter has decided, and what its bound has cost, since it was made. Twin of
// lib/engine/js/tally.ts.
#pragma once

#include <cstdint>

#include "eviction.h"
#include "verdict.h"

namespace relay_limiter {

struct Counters {
  uint64_t allowed = 0;
  uint64_t delayed = 0;
  uint64_t disconnected = 0;
  uint64_t bansBegun = 0;
  uint64_t evictions = 0;
  uint64_t lossyEvictions = 0;
  uint64_t refusedNewcomers = 0;

  // Counts a check that was decided, and returns its verdict.
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
      case Verdict::kNeedsName:
      case Verdict::kNoMemory:
        break;
    }
    return verdict;
  }

  void countEviction(const EvictionCost& cost) noexcept {
    ++evictions;
    if (!cost.isNothing()) ++lossyEvictions;
  }
};

}  // namespace relay_limiter
