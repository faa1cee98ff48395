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
struct Loss {
  // Whether it has violations that a check would not forgive.
  bool punished;
  uint64_t violations;
  // Of an unpunished peer: the seconds until nobody can tell it from a fresh one, 0 where nobody
  // can. Of a punished one: minus the seconds for which it has been idle.
  double rest;

  static constexpr Loss ofUnpunished(double seconds) noexcept { return {false, 0, seconds}; }
  static constexpr Loss ofPunished(uint64_t violations, double idle) noexcept {
    return {true, violations, -idle};
  }
  // That of a banned peer: nobody goes for it, and all others do before it.
  static constexpr Loss ofBanned() noexcept { return {true, UINT64_MAX, kInfinity}; }
  bool isNothing() const noexcept { return !punished && rest <= 0; }
};

inline bool operator<(const Loss& a, const Loss& b) noexcept {
  if (a.punished != b.punished) return b.punished;
  return a.violations != b.violations ? a.violations < b.violations : a.rest < b.rest;
}

// The record that goes, of those that were offered: the least loss, and one below `worth`, that of
// the newcomer, for which it goes.
template <class Record>
class Victim {
 public:
  explicit Victim(const Loss& worth) noexcept : loss_(worth) {}

  // nullptr: nobody may go.
  Record* record() const noexcept { return record_; }
  const Loss& loss() const noexcept { return loss_; }

  // Whether one may go that is so many seconds from fresh. What else is to be known of it is dear,
  // and only worth looking up if so.
  bool mayBe(double seconds) const noexcept { return loss_.punished || seconds < loss_.rest; }

  // True where it cannot be bettered.
  bool offer(Record& record, const Loss& loss) noexcept {
    if (!(loss < loss_)) return false;
    record_ = &record;
    loss_ = loss;
    return loss.isNothing();
  }

 private:
  Record* record_ = nullptr;
  Loss loss_;
};

}  // namespace relay_limiter
