// SnapshotWalk visits everything that a snapshot stores of a limiter, in bounded steps. Between two
// steps the limiter may be used. A step visits a peer in its state at that time; a peer that comes
// or goes during the walk may be missing. Counterpart of lib/engine/js/snapshot-walk.ts.
//
// The offenders with a stored key come first, in the order of their first violations. All other
// peers follow, under digests. `Core` is a limiter or a scope of rules. If it has a method
// isInterrupted(), a step ends when that returns true; the next one begins with what could not be
// visited.
#pragma once

#include <cstddef>
#include <cstdint>

#include "offenders.h"
#include "pending.h"
#include "sorted-runs.h"

namespace relay_limiter {

template <class Core>
auto isInterrupted(const Core& core, int) noexcept -> decltype(core.isInterrupted()) {
  return core.isInterrupted();
}
template <class Core>
constexpr bool isInterrupted(const Core&, long) noexcept {
  return false;
}

template <class Core>
class SnapshotWalk {
 public:
  bool isOver() const noexcept { return phase_ == Phase::kOver; }

  // Visits about `most` peers, perhaps none. Calls useOffender(offender, ...) for offenders, as
  // Core::visitOffender does, and useDigest(secret, saved) for others. `secret` is nullptr for the
  // limiter's own, and it is the same for all calls of one step. False if there is no memory.
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

  // The maximum number of a table's pages that a step visits: about ten thousand records.
  static constexpr unsigned kMostPages = 16;

  bool collect(Core& core) noexcept {
    bool hasMemory = true;
    const auto add = [&](const SnapshotPosition& position) {
      hasMemory = hasMemory && positions_.add(position);
    };
    if (!hasBegun_) order_ = core.offenders().table().lastOrder();
    hasBegun_ = true;
    for (unsigned n = 0; n < kMostPages; ++n) {
      const bool hasMore = core.offenders().sweepPositions(cursor_, order_, add);
      if (!hasMemory) return false;
      if (isInterrupted(core, 0)) return true;
      if (hasMore) continue;
      positions_.finish();
      enter(Phase::kOffenders);
      break;
    }
    return true;
  }

  template <class UseOffender>
  void visitOffenders(Core& core, double now, size_t most, UseOffender&& useOffender) noexcept {
    for (size_t n = 0; n < most; ++n) {
      const SnapshotPosition* next = positions_.next();
      if (next == nullptr) return enter(Phase::kDigests);
      SnapshotPosition position = *next;
      core.visitOffender(position.fingerprint, now, useOffender);
      if (isInterrupted(core, 0)) return;
      positions_.take(position);
    }
  }

  // A step visits peers of only one pass, because each pass may have a secret of its own.
  template <class UseOffender, class UseDigest>
  void visitOthers(Core& core, double now, size_t most, UseOffender&& useOffender,
                   UseDigest&& useDigest) noexcept {
    size_t visited = 0;
    const auto useNewOffender = [&](const auto&... offender) {
      ++visited;
      useOffender(offender...);
    };
    const auto visit = [&](const Secret* secret, const auto& saved) {
      ++visited;
      useDigest(secret, saved);
    };
    for (unsigned n = 0; n < kMostPages && visited < most; ++n) {
      const bool hasMore =
          core.sweepSnapshotPass(pass_, cursor_, now, order_, useNewOffender, visit);
      if (isInterrupted(core, 0)) return;
      if (hasMore) continue;
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
  // The order of the last offender when the walk began. Newer offenders are visited among the other
  // peers.
  uint64_t order_ = 0;
  SortedRuns<SnapshotPosition> positions_;
};

}  // namespace relay_limiter
