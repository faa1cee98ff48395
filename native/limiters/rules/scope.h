// ScopeState stores the records of one scope and its offenders, and makes room for new records.
// Counterpart of lib/engine/js/rules/scope.ts.
#pragma once

#include <cmath>
#include <limits>

#include "../counters.h"
#include "../eviction.h"
#include "../pending.h"
#include "rates.h"
#include "storage.h"

namespace relay_limiter {

// An offender in a snapshot; see RULE_OFFENDER_NUMBERS in lib/engine/rules.ts.
struct SavedRuleOffender {
  double violations;
  double level;
  double banLevel;
  // Infinity: for ever; NaN without a ban in force.
  double banSecondsLeft;
  // NaN without a ban that is over.
  double secondsSinceBan;
  double idleSeconds;
  // As of the last refill; NaN if they are not saved.
  double used[kMaxRules];

  // The end of the last ban; kNever without one.
  double banEnd(double now) const noexcept {
    if (banSecondsLeft == banSecondsLeft) return now + banSecondsLeft;
    return secondsSinceBan == secondsSinceBan ? now - secondsSinceBan : kNever;
  }
};

// Another peer in a snapshot; see RULE_DIGEST_NUMBERS in lib/engine/rules.ts.
struct SavedRuleDigest {
  Fingerprint digest;
  double idleSeconds;
  double used[kMaxRules];
};

template <class Storages>
class BasicScopeState {
  using Storage = typename Storages::Storage;

 public:
  using Records = typename Storages::Records;
  using Offenders = BasicRuleOffenders<Storages>;
  using Pending = RuleRecord<kMaxRules>;
  using PendingRecords = typename Storage::template Pending<Pending>;

  static constexpr unsigned kSecrets = PendingRecords::kMostSecrets;
  // The passes of a snapshot: the records in each table, and the pending records of each secret.
  static constexpr unsigned kSnapshotPasses = Records::kTables + kSecrets;
  // A cleanup has one more, the bans.
  static constexpr unsigned kPasses = kSnapshotPasses + 1;

  // `plan` and `rates` outlive this, and `latestBanEnd` as in RuleOffenders.
  BasicScopeState(unsigned index, double maxPeers, const RulePlan& plan, const Rates& rates,
                  typename Storages::LatestEnd& latestBanEnd, const Storages& storages) noexcept
      : index_(index),
        maxPeers_(maxPeers),
        plan_(plan),
        rates_(rates),
        records_(storages.records(index, plan.slots[index])),
        offenders_(maxPeers, latestBanEnd, storages.of(index)),
        counters_(storages.of(index).template value<Counters>()) {}

  Records& records() noexcept { return records_; }
  const Records& records() const noexcept { return records_; }
  Offenders& offenders() noexcept { return offenders_; }
  const Offenders& offenders() const noexcept { return offenders_; }
  PendingRecords& pending() noexcept { return pending_; }
  Counters& counters() noexcept { return *counters_; }
  const BanPolicy& policy() const noexcept { return plan_.bans[index_]; }
  bool isEmpty() const noexcept { return records_.size() == 0 && pending_.isEmpty(); }
  size_t memoryBytes() const noexcept {
    return records_.memoryBytes() + offenders_.memoryBytes() + pending_.memoryBytes();
  }

  // Whom a new record replaces.
  struct Eviction {
    bool isNeeded;
    Fingerprint peer;
    EvictionCost cost;
  };

  // Whether a new record may be added now; if there are maxPeers records, only in place of one with
  // a lower cost, among up to `most` records. Nothing changes before evict().
  RELAY_LIMITER_NOINLINE bool admit(const Fingerprint& fingerprint, double now,
                                    const EvictionCost& newcomerCost, unsigned most,
                                    Eviction& eviction) noexcept {
    eviction.isNeeded = false;
    if (static_cast<double>(records_.size()) < maxPeers_) return true;
    if (offenders_.areAllBanned(records_.size(), now)) return false;
    EvictionCandidate<Fingerprint> best(newcomerCost);
    records_.eachTable([&](auto& table) {
      if (best.record() != nullptr && best.cost().isZero()) return;
      offerSample(table, offenders_, fingerprint, most, best, [&](auto& record) {
        const unsigned slots = slotsOf(record);
        const double seconds = rates_.secondsUntilFresh(record.state, index_, slots, now);
        if (!best.canImprove(seconds)) return false;
        const double idle = elapsed(now, record.state[0]);
        return best.offer(record.fingerprint,
                          offenders_.evictionCostOf(record.fingerprint, seconds, idle, now));
      });
    });
    if (best.record() == nullptr) return false;
    eviction = {true, *best.record(), best.cost()};
    return true;
  }

  // Removes the peer that a new record replaces. Records may move.
  void evict(const Eviction& eviction) noexcept {
    if (!eviction.isNeeded) return;
    counters_->countEviction(eviction.cost);
    records_.erase(eviction.peer);
    offenders_.forgive(eviction.peer);
  }

  // A pending record with the numbers of the peer without a record; nullptr if there is none. The
  // key must have its text if needsText().
  double* findPending(const Key& key) noexcept {
    if (pending_.isEmpty()) return nullptr;
    Pending* record = pending_.find(key);
    return record == nullptr ? nullptr : record->state;
  }
  bool needsText(const Key& key) const noexcept {
    return key.text == nullptr && pending_.needsText();
  }

  // Bans a peer until `end`, or makes its ban end then if it would end sooner.
  Verdict ban(const Key& key, double end, double now) noexcept {
    typename Offenders::Reserved reserved;
    const Verdict added =
        add(key, true, true, now, EvictionCost::ofBanned(), kMostLookedAt, nullptr, reserved);
    if (added != Verdict::kAllowed) return added;
    Punishment* const punishment = offenders_.find(key.fingerprint);
    // Only in a shared file that is damaged.
    if (punishment == nullptr) return Verdict::kNoRoom;
    // What is forgotten by now stays forgotten, although the last ban ends later than before.
    punishment->banLevel =
        policy().banLevelAfter(punishment->banLevel, elapsed(now, punishment->banEnd));
    if (end > punishment->banEnd) offenders_.setBanEnd(*punishment, end, now);
    return Verdict::kAllowed;
  }

  // Restores an offender. kNoRoom if there are maxPeers peers and none of up to `most` records may
  // be evicted for it.
  Verdict restore(const Key& key, const SavedRuleOffender& saved, double now,
                  unsigned most) noexcept {
    RuleState state = savedState(saved.used, now - saved.idleSeconds);
    const double end = saved.banEnd(now);
    const bool punishes = saved.level > 0 || saved.banLevel > 0 || end > kNever;
    const EvictionCost cost = costOf(saved, state, end, now);
    typename Offenders::Reserved reserved;
    const Verdict added =
        add(key, saved.violations > 0 || punishes, punishes, now, cost, most, &state, reserved);
    if (added != Verdict::kAllowed) return added;
    if (saved.violations > 0) {
      offenders_.raiseViolations(key.fingerprint, static_cast<uint64_t>(saved.violations));
    }
    Punishment* const punishment = offenders_.find(key.fingerprint);
    if (punishment == nullptr) return Verdict::kAllowed;
    offenders_.raiseLevels(*punishment, saved.level, saved.banLevel, policy(), now);
    if (end > punishment->banEnd) offenders_.setBanEnd(*punishment, end, now);
    return Verdict::kAllowed;
  }

  // Stores what a snapshot has under a digest until a check needs a record of the peer. kNoRoom if
  // the snapshot has nothing that is used, or if maxPeers records or too many secrets are pending.
  Verdict restoreDigest(const Secret& secret, bool isOwn, const SavedRuleDigest& saved,
                        double now) noexcept {
    const RuleState state = savedState(saved.used, now - saved.idleSeconds);
    if (std::none_of(state.numbers + 1, state.numbers + 1 + kMaxRules,
                     [](double used) { return used > 0; })) {
      return Verdict::kNoRoom;
    }
    Pending record;
    record.fingerprint = saved.digest;
    std::copy_n(state.numbers, 1 + kMaxRules, record.state);
    return pending_.put(secret, isOwn, record, maxPeers_,
                        [&](const Pending& restored, Pending& existing) {
                          RuleState other;
                          std::copy_n(restored.state, 1 + kMaxRules, other.numbers);
                          merge(other, existing.state, now);
                          return false;
                        });
  }

  // Restores the same as a record, if the peer has none or its own is merged with it. For storages
  // without pending records.
  Verdict restorePeer(const SavedRuleDigest& saved, double now) noexcept {
    RuleState state = savedState(saved.used, now - saved.idleSeconds);
    const double seconds = rates_.secondsUntilFresh(state.numbers, index_, slots(), now);
    if (!(seconds > 0)) return Verdict::kNoRoom;
    typename Offenders::Reserved reserved;
    return add({saved.digest, nullptr, 0}, false, false, now, EvictionCost::ofClean(seconds),
               kSample, &state, reserved);
  }

  // Makes the tables consistent again after an operation on them was interrupted. For storages that
  // processes share.
  void repair() noexcept {
    records_.repair();
    offenders_.repair(
        [this](const Fingerprint& fingerprint) { return records_.find(fingerprint) != nullptr; });
  }

  // Fetches the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    records_.prepare(fingerprint);
    offenders_.prepare(fingerprint);
  }

  void removePeer(const Key& key) noexcept {
    records_.erase(key.fingerprint);
    offenders_.forgive(key.fingerprint);
    pending_.remove(key);
  }

  // Visits some records for a cleanup and removes those that are idle and whose peers are fresh.
  // Adds the number of removed records without pending ones to `removed`.
  bool sweep(unsigned pass, uint64_t& cursor, double maxIdle, double now,
             uint64_t& removed) noexcept {
    const auto isExpired = [&](const double* state, unsigned slots) {
      return elapsed(now, state[0]) > maxIdle &&
             rates_.secondsUntilFresh(state, index_, slots, now) == 0;
    };
    if (pass >= kSnapshotPasses) return offenders_.sweepBans(cursor, now);
    if (pass >= Records::kTables) {
      return pending_.sweep(
          pass - Records::kTables, cursor,
          [&](const Secret&, const Pending& record) { return isExpired(record.state, slots()); });
    }
    return records_.sweep(pass, cursor,
                          [&](const Fingerprint& fingerprint, const double* state, unsigned room) {
                            if (!isExpired(state, std::min(room, slots()))) return false;
                            if (offenders_.isPunished(fingerprint, policy(), now)) return false;
                            offenders_.forgive(fingerprint);
                            ++removed;
                            return true;
                          });
  }

  void clear() noexcept {
    records_.clear();
    offenders_.clear();
    pending_.clear();
  }

  // For SnapshotWalk:

  // Calls use(offender) if a snapshot lists the offender by key.
  template <class Use>
  void visitOffender(const Fingerprint& fingerprint, double now, Use&& use) noexcept {
    const Offender* offender = offenders_.findForSnapshot(fingerprint, now);
    if (offender != nullptr) use(*offender);
  }

  // Visits some peers for a snapshot, except the offenders that it contains already. The pending
  // records come first: a peer that is checked meanwhile is visited again in its table.
  template <class UseOffender, class UseDigest>
  bool sweepSnapshotPass(unsigned pass, uint64_t& cursor, double now, uint64_t order,
                         UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    if (pass < kSecrets) {
      return pending_.sweep(pass, cursor, [&](const Secret& secret, const Pending& record) {
        SavedRuleDigest saved{record.fingerprint, elapsed(now, record.state[0]), {}};
        if (save(record.state, slots(), now, saved.used)) useDigest(&secret, saved);
        return false;
      });
    }
    const auto visit = [&](const Fingerprint& fingerprint, const double* state, unsigned room) {
      const Offender* offender = offenders_.findForSnapshot(fingerprint, now);
      if (offender == nullptr) {
        SavedRuleDigest saved{fingerprint, elapsed(now, state[0]), {}};
        if (save(state, std::min(room, slots()), now, saved.used)) useDigest(nullptr, saved);
      } else if (offenders_.isNewerThan(*offender, order)) {
        useOffender(*offender);
      }
    };
    return records_.visit(pass - kSecrets, cursor, visit);
  }

  // The numbers of an offender for a snapshot.
  SavedRuleOffender saved(const Offender& offender, double now) const noexcept {
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
    SavedRuleOffender saved{static_cast<double>(offender.violations), 0, 0, kNaN, kNaN, 0, {}};
    if (const Punishment* punishment = offenders_.find(offender.fingerprint)) {
      saved.level = offenders_.levelOf(*punishment, policy(), now);
      saved.banLevel = punishment->banLevel;
      const double end = punishment->banEnd;
      if (now < end) saved.banSecondsLeft = end - now;
      if (!(now < end) && end > kNever) saved.secondsSinceBan = now - end;
    }
    RuleState state;
    if (!records_.read(offender.fingerprint, state)) state.reset(now);
    saved.idleSeconds = elapsed(now, state.numbers[0]);
    save(state.numbers, slots(), now, saved.used);
    return saved;
  }

 private:
  unsigned slots() const noexcept { return plan_.slots[index_]; }
  template <class Record>
  unsigned slotsOf(const Record&) const noexcept {
    return std::min(Record::kSlots, slots());
  }

  // Makes sure that the peer has a record, and what offends() needs. `saved` is its state in a
  // snapshot, or nullptr. If this is not allowed, nothing has changed.
  Verdict add(const Key& key, bool offends, bool punishes, double now,
              const EvictionCost& newcomerCost, unsigned most, RuleState* saved,
              typename Offenders::Reserved& reserved) noexcept {
    double* state;
    if (!records_.fetch(key.fingerprint, state)) return Verdict::kNoMemory;
    const bool isNew = state == nullptr;
    Eviction eviction;
    if (isNew) {
      if (!admit(key.fingerprint, now, newcomerCost, most, eviction)) return Verdict::kNoRoom;
      RuleState first;
      first.reset(now);
      if (saved != nullptr) first = *saved;
      if (const double* pending = findPending(key)) {
        std::copy_n(pending, 1 + kMaxRules, first.numbers);
        if (saved != nullptr) merge(*saved, first.numbers, now);
      }
      if (records_.insert(key.fingerprint, first) == nullptr) return Verdict::kNoMemory;
    }
    if (offends && !offenders_.reserve(key, punishes, reserved)) {
      if (isNew) records_.erase(key.fingerprint);
      return Verdict::kNoMemory;
    }
    if (isNew) {
      evict(eviction);
      pending_.remove(key);
    } else if (saved != nullptr) {
      merge(*saved, state, now);
    }
    return Verdict::kAllowed;
  }

  // As the methods of Rates.
  void merge(RuleState& saved, double* state, double now) const noexcept {
    rates_.merge(saved, state, index_, slots(), now);
  }
  RuleState savedState(const double* used, double at) const noexcept {
    return rates_.saved(used, at, index_, slots());
  }
  bool save(const double* state, unsigned slots, double now, double* used) const noexcept {
    return rates_.save(state, index_, slots, now, used);
  }

  EvictionCost costOf(const SavedRuleOffender& saved, const RuleState& state, double banEnd,
                      double now) const noexcept {
    if (now < banEnd) return EvictionCost::ofBanned();
    if (!(saved.violations > 0)) {
      return EvictionCost::ofClean(rates_.secondsUntilFresh(state.numbers, index_, slots(), now));
    }
    return EvictionCost::ofOffender(static_cast<uint64_t>(saved.violations),
                                    now - state.numbers[0]);
  }

  const unsigned index_;
  const double maxPeers_;
  const RulePlan& plan_;
  const Rates& rates_;
  Records records_;
  Offenders offenders_;
  PendingRecords pending_;
  typename Storage::template Stored<Counters> counters_;
};

using ScopeState = BasicScopeState<PrivateRuleStorages>;

}  // namespace relay_limiter
