// SnapshotWalk: visits all that a snapshot holds of a limiter, in bounded steps between which the
// limiter may go on. Each peer is told as of its step; one that comes or goes meanwhile may be
// missing. First the named offenders, in the order of their first violations, then the others under
// digests. `Core` is a limiter.
#pragma once

#include <cstddef>
#include <cstdint>

#include "offenders.h"
#include "pending.h"
#include "sorted-runs.h"

namespace relay_limiter {

template <class Core>
class SnapshotWalk {
 public:
  bool isOver() const noexcept { return phase_ == Phase::kOver; }

  // Visits about `most` peers: useOffender(offender, began), useDigest(secret, saved), the secret
  // nullptr for the limiter's own and the same for all of a step. False if there is no memory.
  template <class UseOffender, class UseDigest>
  bool step(Core& core, double now, size_t most, UseOffender&& useOffender,
            UseDigest&& useDigest) noexcept {
    switch (phase_) {
      case Phase::kCollecting:
        return collect(core);
      case Phase::kOffenders:
        visitOffenders(core, now, most, useOffender);
        return true;
      case Phase::kDigests:
        visitOthers(core, now, most, useOffender, useDigest);
        return true;
      case Phase::kOver:
        break;
    }
    return true;
  }

 private:
  enum class Phase { kCollecting, kOffenders, kDigests, kOver };

  // Pages of a table that a step looks at, at most: some ten thousand records.
  static constexpr unsigned kMostPages = 16;

  bool collect(Core& core) noexcept {
    bool hasMemory = true;
    const auto add = [&](const Offenders::SnapshotPosition& place) {
      hasMemory = hasMemory && places_.add(place);
    };
    if (!hasBegun_) order_ = core.offenders().lastOrder();
    hasBegun_ = true;
    for (unsigned n = 0; n < kMostPages; ++n) {
      const bool hasMore = core.offenders().sweepPositions(cursor_, order_, add);
      if (!hasMemory) return false;
      if (hasMore) continue;
      places_.finish();
      enter(Phase::kOffenders);
      break;
    }
    return true;
  }

  template <class UseOffender>
  void visitOffenders(Core& core, double now, size_t most, UseOffender&& useOffender) noexcept {
    Offenders::SnapshotPosition place;
    for (size_t n = 0; n < most; ++n) {
      if (!places_.take(place)) return enter(Phase::kDigests);
      double began;
      const Offender* offender =
          core.offenders().findForSnapshot(place.fingerprint, now, core.banDuration(), began);
      if (offender != nullptr) useOffender(*offender, began);
    }
  }

  // One pass of the sweep that finds anybody a step at most, since each may have a secret of its
  // own.
  template <class UseOffender, class UseDigest>
  void visitOthers(Core& core, double now, size_t most, UseOffender&& useOffender,
                   UseDigest&& useDigest) noexcept {
    size_t visited = 0;
    const auto useLate = [&](const Offender& offender, double began) {
      ++visited;
      useOffender(offender, began);
    };
    const auto visit = [&](const Secret* secret, const SavedDigest& saved) {
      ++visited;
      useDigest(secret, saved);
    };
    for (unsigned n = 0; n < kMostPages && visited < most; ++n) {
      if (core.sweepOthers(pass_, cursor_, now, order_, useLate, visit)) continue;
      cursor_ = 0;
      if (++pass_ == Core::kSnapshotPasses) return enter(Phase::kOver);
      if (visited > 0) return;
    }
  }

  void enter(Phase phase) noexcept {
    phase_ = phase;
    cursor_ = 0;
  }

  Phase phase_ = Phase::kCollecting;
  uint64_t cursor_ = 0;
  unsigned pass_ = 0;
  bool hasBegun_ = false;
  // Offenders since later than that are told with the others.
  uint64_t order_ = 0;
  SortedRuns<Offenders::SnapshotPosition> places_;
};

}  // namespace relay_limiter
