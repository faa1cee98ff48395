// Eviction: which of some peers is missed least where a newcomer needs the place of one. Twin of
// lib/engine/js/eviction.ts. Knows no table and no limiter.
#pragma once

#include "eviction-cost.h"

namespace relay_limiter {

// Records that are looked at where a newcomer needs the place of one.
constexpr unsigned kSample = 16;
// The most records of a table that are looked at, where none of those before can go.
constexpr unsigned kMostLookedAt = 1024;

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
  bool canImprove(double seconds) const noexcept {
    return cost_.isOffender || seconds < cost_.tieBreaker;
  }

  // True where it cannot be bettered.
  bool offer(Record& record, const EvictionCost& cost) noexcept {
    if (!(cost < cost_)) return false;
    record_ = &record;
    cost_ = cost;
    return cost.isZero();
  }

 private:
  Record* record_ = nullptr;
  EvictionCost cost_;
};

}  // namespace relay_limiter
