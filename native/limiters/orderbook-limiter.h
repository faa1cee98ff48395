// OrderbookLimiter decides the checks of the public class OrderbookRateLimiter. Counterpart of
// lib/engine/js/orderbook-limiter.ts.
#pragma once

#include <algorithm>

#include "../memory/compiler.h"
#include "counters.h"
#include "eviction.h"
#include "offenders.h"
#include "pending.h"
#include "records.h"
#include "sweep.h"
#include "verdict.h"

namespace relay_limiter {

struct OrderbookConfig {
  // In seconds.
  double interval;
  double violationBanThreshold;
  double violationWarningThreshold;
  double violationSevereThreshold;
  // In seconds.
  double banDuration;
  double maxPeers;
};

template <class Storage>
class BasicOrderbookLimiter {
  using Pending = typename Storage::template Pending<LastAllowed>;

 public:
  using Config = OrderbookConfig;
  using Offenders = BasicOffenders<Storage>;
  using AllowedTimes = typename Storage::template Table<LastAllowed>;

  static constexpr unsigned kSecrets = Pending::kMostSecrets;
  // The passes of a cleanup: the times, the bans, and the pending times of each secret.
  static constexpr unsigned kPasses = 2 + kSecrets;

  explicit BasicOrderbookLimiter(const Config& config, const Storage& storage = Storage()) noexcept
      : config_(config),
        counters_(storage.template value<Counters>()),
        allowedAt_(storage.template table<LastAllowed>()),
        offenders_(config.maxPeers, storage),
        inBothTables_(storage.template value<size_t>()) {}

  // `last` is the peer's record, nullptr if it has none.
  Verdict check(const Key& key, LastAllowed* last, double now) noexcept {
    return counters_->count(decide(key, last, now));
  }

  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  // Removes a ban that is over, with its violations. The peer stays tracked, as in the reference.
  bool isBanned(const Fingerprint& fingerprint, double now) noexcept {
    const double began = offenders_.bans().beganAt(fingerprint);
    if (began == kNever) return false;
    if (elapsed(now, began) < config_.banDuration) return true;
    endBan(fingerprint);
    return false;
  }

  // Ends a ban in force as if it were over. False if there is none; then nothing has changed.
  bool unban(const Fingerprint& fingerprint, double now) noexcept {
    if (banSecondsLeft(fingerprint, now) == 0) return false;
    endBan(fingerprint);
    return true;
  }

  double banSecondsLeft(const Fingerprint& fingerprint, double now) const noexcept {
    return offenders_.bans().secondsLeft(fingerprint, now, config_.banDuration);
  }

  // Restores an offender: raises its violations to those of the snapshot, and makes its ban end no
  // earlier. A new peer gets the time of its last allowed request, or only a ban if that time is
  // unknown and it is banned. kNoRoom if there are maxPeers peers and none of up to `most` records
  // may be evicted for a new peer.
  Verdict restore(const Key& key, const SavedOffender& saved, double now, unsigned most) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    const double began = saved.banBegan(now, config_.banDuration);
    // Removes a ban that is over, because restoring would extend it.
    isBanned(fingerprint, now);
    const bool hadBan = hasBan(fingerprint);
    const bool isKnown = hadBan || allowedAt_.find(fingerprint) != nullptr;
    const auto admission = isKnown ? Admission<LastAllowed>::withoutEviction()
                                   : admit(fingerprint, now, saved.evictionCost(), most);
    if (!admission.isAllowed) return Verdict::kNoRoom;
    const bool isBanOnly = began > kNever && saved.idleSeconds == kInfinity;
    if (!isKnown && !isBanOnly) {
      LastAllowed* last = admission.insert(allowedAt_, fingerprint);
      if (last == nullptr) return Verdict::kNoMemory;
      *last = {fingerprint, now - saved.idleSeconds};
      const LastAllowed* pending = pending_.find(key);
      if (pending != nullptr && isLater(*pending, *last)) last->at = pending->at;
      evict(admission, true);
    }
    pending_.remove(key);
    if (!offenders_.restore(key, saved.violations, began)) return Verdict::kNoMemory;
    if (!isKnown && isBanOnly) evict(admission, false);
    if (!hadBan && began > kNever && allowedAt_.find(fingerprint) != nullptr) ++*inBothTables_;
    return Verdict::kAllowed;
  }

  // Fetches the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    allowedAt_.prepare(fingerprint);
    offenders_.prepare(fingerprint);
  }

  // Sets a random key. Call this before the first restoreDigest().
  void setDigestKey(const Secret& key) noexcept { pending_.setKey(key); }

  // Fetches the memory that restoreDigest() will read.
  RELAY_LIMITER_INLINE void prepareDigest(const Secret& secret,
                                          const Fingerprint& digest) const noexcept {
    pending_.prepare(secret, digest);
  }

  // Stores what a snapshot has under a digest until the peer is checked again. kNoRoom if the
  // snapshot has no time, or if maxPeers records or too many secrets are pending.
  Verdict restoreDigest(const Secret& secret, bool isOwn, const SavedDigest& saved,
                        double now) noexcept {
    if (!saved.hasTime()) return Verdict::kNoRoom;
    const LastAllowed last = saved.toLastAllowed(now);
    return pending_.put(secret, isOwn, last, config_.maxPeers, isLater);
  }

  // This limiter has no buckets.
  static SavedBucket savedBucket(const Fingerprint&, double) noexcept {
    return SavedBucket::none();
  }

  // Calls use(offender, began) if a snapshot lists the offender by key.
  template <class Use>
  void visitOffender(const Fingerprint& fingerprint, double now, Use&& use) noexcept {
    offenders_.visitForSnapshot(fingerprint, now, banDuration(), use);
  }

  static constexpr unsigned kSnapshotPasses = kSecrets + 1;

  // Visits some peers for a snapshot, except the offenders that it contains already, as
  // snapshotVisitor() describes. Works as Table::sweep does, in kSnapshotPasses passes. The pending
  // records come first: a peer that is checked meanwhile is visited again in its table.
  template <class UseOffender, class UseDigest>
  bool sweepSnapshotPass(unsigned pass, uint64_t& cursor, double now, uint64_t order,
                         UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    const auto isSaved = [&](const LastAllowed& last) {
      return secondsUntilFresh(last, now) > kSnapshotSeconds;
    };
    if (pass < kSecrets) {
      return pending_.sweep(pass, cursor, pendingSnapshotVisitor(now, isSaved, useDigest));
    }
    return allowedAt_.sweep(cursor, snapshotVisitor(offenders_, now, banDuration(), order, isSaved,
                                                    useOffender, useDigest));
  }

  // Seconds since the peer's last allowed request; infinity if there is no record of one.
  double idleSeconds(const Fingerprint& fingerprint, double now) const noexcept {
    const LastAllowed* last = allowedAt_.find(fingerprint);
    return last == nullptr ? kInfinity : elapsed(now, last->at);
  }

  void removePeer(const Key& key) noexcept {
    remove(key.fingerprint);
    pending_.remove(key);
  }

  // Removes old times and bans that are over. Returns the number of removed times; pending times do
  // not count.
  uint64_t cleanup(double maxAge, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto expireTime = [&](LastAllowed& last) {
      if (!(elapsed(now, last.at) > maxAge)) return false;
      if (hasBan(last.fingerprint)) {
        --*inBothTables_;
      } else {
        offenders_.forgive(last.fingerprint);
      }
      ++removed;
      return true;
    };
    const auto expireBan = [&](const Ban& ban) {
      if (!(elapsed(now, ban.began) > config_.banDuration)) return false;
      if (allowedAt_.find(ban.fingerprint) != nullptr) --*inBothTables_;
      return true;
    };
    const auto expirePending = [&](const Secret&, const LastAllowed& last) {
      return elapsed(now, last.at) > maxAge || secondsUntilFresh(last, now) == 0;
    };
    sweep_.run(pending_.isEmpty() ? 2 : kPasses, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      if (pass == 0) return allowedAt_.sweep(cursor, expireTime);
      return pass == 1 ? offenders_.sweepBans(cursor, expireBan)
                       : pending_.sweep(pass - 2, cursor, expirePending);
    });
    return removed;
  }

  // Whether the limiter stores nothing of any peer.
  bool isEmpty() const noexcept {
    return peers() == 0 && offenders_.size() == 0 && pending_.isEmpty();
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    allowedAt_.clear();
    pending_.clear();
    offenders_.clear();
    sweep_.stop();
    *inBothTables_ = 0;
  }

  // Restores a peer by its fingerprint, of which a snapshot has no more than a time. Keeps the
  // later of two times. kNoRoom if no peer may be evicted for a new one.
  Verdict restorePeer(const SavedDigest& saved, double now) noexcept {
    if (!saved.hasTime()) return Verdict::kNoRoom;
    const LastAllowed restored = saved.toLastAllowed(now);
    LastAllowed* last = allowedAt_.find(saved.digest);
    if (last == nullptr) {
      if (hasBan(saved.digest)) return Verdict::kNoRoom;
      const auto cost = EvictionCost::ofClean(secondsUntilFresh(restored, now));
      const auto admission = admit(saved.digest, now, cost, kSample);
      if (!admission.isAllowed) return Verdict::kNoRoom;
      last = admission.insert(allowedAt_, saved.digest);
      if (last == nullptr) return Verdict::kNoMemory;
      *last = restored;
      evict(admission, true);
    } else if (isLater(restored, *last)) {
      last->at = restored.at;
    }
    return Verdict::kAllowed;
  }

  // Makes the tables consistent again after an operation on them was interrupted.
  void repair() noexcept {
    allowedAt_.repair();
    offenders_.repair([&](const Fingerprint& peer) { return allowedAt_.find(peer) != nullptr; });
    *inBothTables_ = 0;
    allowedAt_.forEach([&](const LastAllowed& last) {
      if (hasBan(last.fingerprint)) ++*inBothTables_;
    });
  }

  Offenders& offenders() noexcept { return offenders_; }
  Counters& counters() noexcept { return *counters_; }
  size_t peers() const noexcept {
    return allowedAt_.size() + offenders_.bans().size() - *inBothTables_;
  }
  size_t tracked() const noexcept { return allowedAt_.size(); }
  size_t memoryBytes() const noexcept {
    return allowedAt_.memoryBytes() + pending_.memoryBytes() + offenders_.memoryBytes();
  }
  double banDuration() const noexcept { return config_.banDuration; }

 private:
  Verdict decide(const Key& key, LastAllowed* last, double now) noexcept {
    if (isBanned(key.fingerprint, now)) {
      return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kDisconnect;
    }
    const auto violations = static_cast<double>(offenders_.table().violations(key.fingerprint));
    if (violations >= config_.violationBanThreshold) {
      if (!offenders_.canAdd(key)) return Verdict::kNeedsText;
      return beginBan(key, now);
    }
    if (last == nullptr && !pending_.isEmpty()) {
      const Verdict restored = restorePending(key, now, last);
      if (restored != Verdict::kAllowed) return restored;
    }
    const double allowedAt = last == nullptr ? kNever : last->at;
    if (elapsed(now, allowedAt) >= effectiveInterval(violations)) {
      return setAllowedAt(last, key.fingerprint, now);
    }
    if (!offenders_.canAdd(key)) return Verdict::kNeedsText;
    return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kRefused;
  }

  // Moves the peer's pending time to its record, if there is one and the peer has no record. Sets
  // `last` to the record; nullptr without one.
  RELAY_LIMITER_NOINLINE Verdict restorePending(const Key& key, double now,
                                                LastAllowed*& last) noexcept {
    last = allowedAt_.find(key.fingerprint);
    if (last != nullptr) return Verdict::kAllowed;
    if (key.text == nullptr && pending_.needsText()) return Verdict::kNeedsText;
    const LastAllowed* pending = pending_.find(key);
    if (pending == nullptr) return Verdict::kAllowed;
    const double at = pending->at;
    const Verdict added = setAllowedAt(last, key.fingerprint, now);
    if (added != Verdict::kAllowed) return added;
    last = allowedAt_.find(key.fingerprint);
    last->at = at;
    pending_.remove(key);
    return Verdict::kAllowed;
  }

  // Removes a ban with its violations. The peer's next request is allowed.
  RELAY_LIMITER_NOINLINE void endBan(const Fingerprint& fingerprint) noexcept {
    LastAllowed* last = allowedAt_.find(fingerprint);
    if (last != nullptr) --*inBothTables_;
    offenders_.forgive(fingerprint);
    // Without memory for a record the result is the same: a peer without one is allowed.
    if (last == nullptr) last = allowedAt_.insert(fingerprint);
    if (last != nullptr) *last = {fingerprint, kNever};
  }

  void remove(const Fingerprint& fingerprint) noexcept {
    const bool hadBan = hasBan(fingerprint);
    if (erase(allowedAt_, fingerprint) && hadBan) --*inBothTables_;
    offenders_.forgive(fingerprint);
  }

  // Seconds until the interval of a peer without violations is over.
  double secondsUntilFresh(const LastAllowed& last, double now) const noexcept {
    return secondsLeft(effectiveInterval(0), elapsed(now, last.at));
  }

  // Sets the time of `last`. If that is nullptr, finds or adds the peer's record.
  Verdict setAllowedAt(LastAllowed* last, const Fingerprint& fingerprint, double at) noexcept {
    if (last == nullptr) last = allowedAt_.find(fingerprint);
    if (last == nullptr) {
      const auto admission = admit(fingerprint, at, EvictionCost::ofBanned(), kMostLookedAt);
      if (!admission.isAllowed) return Verdict::kNoRoom;
      last = admission.insert(allowedAt_, fingerprint);
      if (last == nullptr) return Verdict::kNoMemory;
      *last = {fingerprint, at};
      evict(admission, true);
    } else {
      last->at = at;
    }
    return Verdict::kAllowed;
  }

  // If the peer has no time, the ban is all that is stored of it, and it counts as a new peer.
  Verdict beginBan(const Key& key, double now) noexcept {
    const bool isKnown = allowedAt_.find(key.fingerprint) != nullptr;
    const auto admission =
        isKnown ? Admission<LastAllowed>::withoutEviction()
                : admit(key.fingerprint, now, EvictionCost::ofBanned(), kMostLookedAt);
    if (!admission.isAllowed) return Verdict::kNoRoom;
    if (!offenders_.beginBan(key, now)) return Verdict::kNoMemory;
    evict(admission, false);
    if (isKnown) ++*inBothTables_;
    return Verdict::kBanBegins;
  }

  // Decides whether a new peer may be added. If there are maxPeers peers, one with a lower cost
  // than the new peer is chosen to be evicted.
  RELAY_LIMITER_NOINLINE Admission<LastAllowed> admit(const Fingerprint& fingerprint, double now,
                                                      const EvictionCost& newcomerCost,
                                                      unsigned most) noexcept {
    if (static_cast<double>(peers()) < config_.maxPeers) {
      return Admission<LastAllowed>::withoutEviction();
    }
    if (offenders_.areAllBanned(peers(), now, config_.banDuration)) {
      return Admission<LastAllowed>::denied();
    }
    EvictionCandidate<LastAllowed> best(newcomerCost);
    offerSample(allowedAt_, offenders_, fingerprint, most, best,
                [&](LastAllowed& last) { return offer(best, last, now); });
    // Some peers have only a ban, and it may be over.
    const Ban* ended = nullptr;
    if (!best.cost().isZero() && offenders_.bans().size() > *inBothTables_ &&
        offenders_.bans().mayAnyBeOver(now, config_.banDuration)) {
      const unsigned others = best.record() == nullptr ? most : kSample;
      offenders_.sampleBans(fingerprint, others, [&](const Ban& ban) {
        if (elapsed(now, ban.began) >= config_.banDuration) ended = &ban;
        return ended != nullptr;
      });
    }
    if (ended != nullptr) {
      const Fingerprint& evicted = ended->fingerprint;
      return Admission<LastAllowed>::byEviction(allowedAt_.find(evicted), evicted,
                                                EvictionCost::ofClean(0));
    }
    if (best.record() == nullptr) return Admission<LastAllowed>::denied();
    return Admission<LastAllowed>::byEviction(best.record(), best.record()->fingerprint,
                                              best.cost());
  }

  // Removes the evicted peer of an admission. `isReplaced` says whether the newcomer has replaced
  // its record in allowedAt_, if it had one.
  void evict(const Admission<LastAllowed>& admission, bool isReplaced) noexcept {
    if (!admission.needsEviction) return;
    counters_->countEviction(admission.cost);
    if (admission.record != nullptr && hasBan(admission.evicted)) --*inBothTables_;
    if (!isReplaced) erase(allowedAt_, admission.evicted);
    offenders_.forgive(admission.evicted);
  }

  bool offer(EvictionCandidate<LastAllowed>& best, LastAllowed& last, double now) noexcept {
    const double idle = elapsed(now, last.at);
    const double interval = effectiveInterval(0);
    // A lower bound that needs no look-up of the ban: a peer with a ban that is over is fresh, and
    // it has been idle for at least banDuration.
    if (!best.canImprove(secondsLeft(std::min(interval, config_.banDuration), idle))) return false;
    const double seconds = secondsLeft(interval, idle);
    return best.offer(last, offenders_.evictionCostOf(last.fingerprint, seconds, 0, idle, now,
                                                      config_.banDuration));
  }

  // Whether the peer has a ban, in force or over.
  bool hasBan(const Fingerprint& fingerprint) const noexcept {
    return offenders_.bans().beganAt(fingerprint) != kNever;
  }

  // The minimum seconds between two allowed requests.
  double effectiveInterval(double violations) const noexcept {
    if (violations < config_.violationWarningThreshold) return config_.interval;
    if (violations < config_.violationSevereThreshold) return config_.interval * 6;
    return config_.interval * 30;
  }

  const Config config_;
  typename Storage::template Stored<Counters> counters_;
  // When each peer's last request was allowed.
  AllowedTimes allowedAt_;
  Pending pending_;
  Offenders offenders_;
  // The number of peers with a time and a ban, in force or over.
  typename Storage::template Stored<size_t> inBothTables_;
  Sweep sweep_;
};

using OrderbookLimiter = BasicOrderbookLimiter<PrivateStorage>;

}  // namespace relay_limiter
