// One scope of rules in a shared file as SnapshotWalk takes it, and its statistics. What is found
// is copied: JavaScript must not be called while a shard is locked.
#pragma once

#include "../limiters/snapshot-walk.h"
#include "rules.h"

namespace relay_limiter {

class SharedRuleScope {
 public:
  static constexpr unsigned kSnapshotPasses = 1;

  SharedRuleScope(SharedRules& rules, unsigned scope) noexcept : rules_(rules), scope_(scope) {}

  // The result of the calls so far: kYes, or that of the one that could not read a shard.
  Entered entered() const noexcept { return entered_; }
  bool isInterrupted() const noexcept { return entered_ != Entered::kYes; }

  struct OffenderView {
    SharedRuleScope& scope;

    const OffenderView& table() const noexcept { return *this; }
    uint64_t lastOrder() const noexcept { return scope.rules_.region().header().order.load(); }

    template <class VisitPosition>
    bool sweepPositions(uint64_t& cursor, uint64_t order, VisitPosition&& visitPosition) noexcept {
      scope.withShard(Needs::kAnyRules, static_cast<uint32_t>(cursor), 0,
                      [&](SharedRules::Scope& records, double) {
                        uint64_t page = 0;
                        records.offenders().sweepPositions(page, order, visitPosition);
                      });
      return scope.isInterrupted() || ++cursor < scope.rules_.shards();
    }
  };

  OffenderView offenders() noexcept { return {*this}; }

  // Calls use(offender, saved) with copies, when the shard is unlocked. The used tokens are by
  // slots, so they need the current rules.
  template <class Use>
  void visitOffender(const Fingerprint& fingerprint, double now, Use&& use) noexcept {
    OffenderCopy copy;
    SavedRuleOffender saved = {};
    bool isFound = false;
    const Key key{fingerprint, nullptr, 0};
    note(rules_.withPeer(Needs::kCurrentRules, scope_, key, now,
                         [&](SharedRules::Scope& scope, const Key& found, double time) {
                           scope.visitOffender(
                               found.fingerprint, time, [&](const Offender& offender) {
                                 isFound = true;
                                 copy.set(offender, scope.offenders().table().keyOf(offender));
                                 saved = scope.saved(offender, time);
                               });
                         }));
    if (isFound) use(copy.offender(), saved);
  }

  template <class UseOffender, class UseDigest>
  bool sweepSnapshotPass(unsigned, uint64_t& cursor, double now, uint64_t order,
                         UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    Fingerprint newer[Page<Offender>::kCapacity];
    unsigned count = 0;
    const auto useNewer = [&](const Offender& offender) {
      if (count < Page<Offender>::kCapacity) newer[count++] = offender.fingerprint;
    };
    withShard(Needs::kCurrentRules, static_cast<uint32_t>(cursor), now,
              [&](SharedRules::Scope& scope, double time) {
                for (unsigned pass = 0; pass < SharedRules::Scope::kSnapshotPasses; ++pass) {
                  uint64_t page = 0;
                  scope.sweepSnapshotPass(pass, page, time, order, useNewer, useDigest);
                }
              });
    for (unsigned i = 0; i < count && !isInterrupted(); ++i) {
      visitOffender(newer[i], now, useOffender);
    }
    // If it is interrupted after the digests, these are visited twice.
    return isInterrupted() || ++cursor < rules_.shards();
  }

  void readStatistics(SharedStatistics& statistics) noexcept {
    for (uint32_t shard = 0; shard < rules_.shards() && entered_ == Entered::kYes; ++shard) {
      withShard(Needs::kAnyRules, shard, 0, [&](SharedRules::Scope& scope, double) {
        auto& table = scope.offenders().table();
        statistics.peers += scope.records().size();
        statistics.unnamed += table.unnamed();
        statistics.violations.add(table.totalViolations());
        statistics.counters.add(scope.counters());
        uint64_t cursor = 0;
        table.sweepNamed(cursor, [&](const Offender& offender) {
          if (offender.violations > 0) statistics.top.offer(offender, table.keyOf(offender));
        });
      });
    }
  }

  // Collects the bans in force with a stored key, and counts all in force. False if there is no
  // memory.
  bool readBans(BanList& bans, size_t& count, double now) noexcept {
    for (uint32_t shard = 0; shard < rules_.shards() && entered_ == Entered::kYes; ++shard) {
      // No allocation while a shard is locked.
      if (!bans.reserve(Page<Punishment>::kCapacity)) return false;
      withShard(Needs::kAnyRules, shard, now, [&](SharedRules::Scope& scope, double time) {
        scope.offenders().eachBan(time, [&](const Punishment& punishment, const StoredKey& key) {
          ++count;
          const Ban ban{punishment.fingerprint, punishment.banEnd, punishment.order};
          if (key) bans.push(ban, key, punishment.banEnd - time);
        });
      });
    }
    return true;
  }

 private:
  void note(Entered entered) noexcept {
    // The secret changes only while there is no peer: then nothing is left out.
    if (entered == Entered::kOutdated || entered == Entered::kStalled) entered_ = entered;
  }

  template <class Use>
  void withShard(Needs needs, uint32_t shard, double now, Use&& use) noexcept {
    note(rules_.withShard(needs, Patience::kLong, shard, now,
                          [&](double time) { use(rules_.scope(scope_), time); }));
  }

  SharedRules& rules_;
  const unsigned scope_;
  Entered entered_ = Entered::kYes;
};

}  // namespace relay_limiter
