// Eviction: which of some peers is missed least where a newcomer needs the place of one. Twin of
// lib/engine/js/eviction.ts. Knows no table and no limiter.
#pragma once

#include <cstdint>

#include "arithmetic.h"

namespace relay_limiter {

// Records that are looked at where a newcomer needs the place of one.
constexpr unsigned kSample = 16;
// The most records of a table that are looked at, where none of those before can go.
constexpr unsigned kMostLookedAt = 1024;

// What is lost where a peer is forgotten; what comes first in the order of losses goes first.
struct EvictionCost {
  // Whether it has violations that a check would not forgive.
  bool punished;
  uint64_t violations;
  // Of an unpunished peer: the seconds until nobody can tell it from a fresh one, 0 where nobody
  // can. Of a punished one: minus the seconds for which it has been idle.
  double rest;

  static constexpr EvictionCost ofUnpunished(double seconds) noexcept {
    return {false, 0, seconds};
  }
  static constexpr EvictionCost ofPunished(uint64_t violations, double idle) noexcept {
    return {true, violations, -idle};
  }
  // That of a banned peer: nobody goes for it, and all others do before it.
  static constexpr EvictionCost ofBanned() noexcept { return {true, UINT64_MAX, kInfinity}; }
  bool isNothing() const noexcept { return !punished && rest <= 0; }
};

inline bool operator<(const EvictionCost& a, const EvictionCost& b) noexcept {
  if (a.punished != b.punished) return b.punished;
  return a.violations != b.violations ? a.violations < b.violations : a.rest < b.rest;
}

// The record that goes, of those that were offered: the least loss, and one below `worth`, that of
// the newcomer, for which it goes.
template <class Record>
class EvictionCandidate {
 public:
  explicit EvictionCandidate(const EvictionCost& newcomerCost) noexcept : cost_(newcomerCost) {}

  // nullptr: nobody may go.
  Record* record() const noexcept { return record_; }
  const EvictionCost& cost() const noexcept { return cost_; }

  // Whether one may go that is so many seconds from fresh. What else is to be known of it is dear,
  // and only worth looking up if so.
  bool canImprove(double seconds) const noexcept { return cost_.punished || seconds < cost_.rest; }

  // True where it cannot be bettered.
  bool offer(Record& record, const EvictionCost& cost) noexcept {
    if (!(cost < cost_)) return false;
    record_ = &record;
    cost_ = cost;
    return cost.isNothing();
  }

 private:
  Record* record_ = nullptr;
  EvictionCost cost_;
};

}  // namespace relay_limiter
