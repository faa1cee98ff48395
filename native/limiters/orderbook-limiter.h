// OrderbookRateLimiter's decisions. Twin of lib/engine/js/orderbook-limiter.ts: same names, same
// order of statements.
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

class OrderbookLimiter {
 public:
  // Of a sweep: the times, the bans, and the times that are awaited.
  static constexpr unsigned kPasses = 2 + PendingRecords<LastAllowed>::kMostSecrets;

  struct Config {
    double interval;
    double violationBanThreshold;
    double violationWarningThreshold;
    double violationSevereThreshold;
    double banDuration;
    double maxPeers;
  };

  explicit OrderbookLimiter(const Config& config) noexcept
      : config_(config), offenders_(config.maxPeers) {}

  // `last` is the peer's, nullptr where it has none.
  Verdict check(const Key& key, LastAllowed* last, double now) noexcept {
    return counters_.count(decide(key, last, now));
  }

  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  bool isBanned(const Fingerprint& fingerprint, double now) noexcept {
    const double bannedAt = offenders_.bans().beganAt(fingerprint);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    LastAllowed* last = allowedAt_.find(fingerprint);
    if (last != nullptr) --both_;
    offenders_.forgive(fingerprint);
    // Where there is no memory for it, a peer without an entry is allowed as well.
    if (last == nullptr) last = allowedAt_.insert(fingerprint);
    if (last != nullptr) *last = {fingerprint, kNever};
    return false;
  }

  // Puts an offender back: its violations become as many, its ban ends as late, and one that is not
  // known gets its time, or where that is unknown and it is banned nothing but the ban; if there is
  // room, or one of `most` that are looked at is missed less; else `kNoRoom`.
  Verdict restore(const Key& key, const Offence& offence, double now, unsigned most) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    const double began = offence.banBegan(now, config_.banDuration);
    // Or a ban that is over would be lengthened.
    isBanned(fingerprint, now);
    const bool wasInBans = isInBans(fingerprint);
    const bool isKnown = wasInBans || allowedAt_.find(fingerprint) != nullptr;
    const auto admission = isKnown ? Admission<LastAllowed>::withoutEviction()
                                   : admit(fingerprint, now, offence.evictionCost(), most);
    if (!admission.isAllowed) return Verdict::kNoRoom;
    const bool isBanAlone = began > kNever && offence.idleSeconds == kInfinity;
    if (!isKnown && !isBanAlone) {
      LastAllowed* last = admission.insert(allowedAt_, fingerprint);
      if (last == nullptr) return Verdict::kNoMemory;
      *last = {fingerprint, now - offence.idleSeconds};
      const LastAllowed* awaited = pending_.find(key);
      if (awaited != nullptr && isLater(*awaited, *last)) last->at = awaited->at;
      evict(admission, true);
    }
    pending_.forget(key);
    if (!offenders_.restore(key, offence.violations, began)) return Verdict::kNoMemory;
    if (!isKnown && isBanAlone) evict(admission, false);
    if (!wasInBans && began > kNever && allowedAt_.find(fingerprint) != nullptr) ++both_;
    return Verdict::kAllowed;
  }

  // Asks for the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    allowedAt_.prepare(fingerprint);
    offenders_.prepare(fingerprint);
  }

  // A random key, before the first digest.
  void setDigestKey(const Secret& key) noexcept { pending_.setKey(key); }

  // Asks for the memory that restoreDigest() will read.
  RELAY_LIMITER_INLINE void prepareDigest(const Secret& secret,
                                          const Fingerprint& digest) const noexcept {
    pending_.prepare(secret, digest);
  }

  // Keeps what a snapshot says under a digest until its peer comes; `kNoRoom` if as many peers as
  // maxPeers are awaited.
  Verdict restoreDigest(const Secret& secret, bool isOwn, const SavedDigest& saved,
                        double now) noexcept {
    if (!saved.hasTime()) return Verdict::kNoRoom;
    const LastAllowed last = saved.restoredTime(now);
    return pending_.put(secret, isOwn, last, config_.maxPeers, isLater);
  }

  // Has no buckets.
  static SavedBucket savedBucket(const Fingerprint&, double) noexcept {
    return SavedBucket::none();
  }

  static constexpr unsigned kSnapshotPasses = PendingRecords<LastAllowed>::kMostSecrets + 1;

  // Visits some of the peers that are not among the named offenders up to `order`, in passes, as
  // sweepUntold() does. Those that are awaited come first: one that comes back meanwhile is visited
  // again in its table.
  template <class UseOffender, class UseDigest>
  bool sweepOthers(unsigned pass, uint64_t& cursor, double now, uint64_t order,
                   UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    const auto isSaved = [&](const LastAllowed& last) {
      return secondsUntilFresh(last, now) > kSnapshotSeconds;
    };
    constexpr unsigned kSecrets = PendingRecords<LastAllowed>::kMostSecrets;
    if (pass < kSecrets) return sweepPending(pending_, pass, cursor, now, isSaved, useDigest);
    return sweepUntold(allowedAt_, offenders_, cursor, now, banDuration(), order, isSaved,
                       useOffender, useDigest);
  }

  // Seconds since the peer's last allowed request; infinity where there was none.
  double idleSeconds(const Fingerprint& fingerprint, double now) const noexcept {
    const LastAllowed* last = allowedAt_.find(fingerprint);
    return last == nullptr ? kInfinity : elapsed(now, last->at);
  }

  void removePeer(const Key& key) noexcept {
    remove(key.fingerprint);
    pending_.forget(key);
  }

  uint64_t cleanup(double maxAge, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto old = [&](LastAllowed& last) {
      if (!(elapsed(now, last.at) > maxAge)) return false;
      if (isInBans(last.fingerprint)) {
        --both_;
      } else {
        offenders_.forgive(last.fingerprint);
      }
      ++removed;
      return true;
    };
    const auto over = [&](const Ban& ban) {
      if (!(elapsed(now, ban.began) > config_.banDuration)) return false;
      if (allowedAt_.find(ban.fingerprint) != nullptr) --both_;
      return true;
    };
    const auto useless = [&](const Secret&, const LastAllowed& last) {
      return elapsed(now, last.at) > maxAge || secondsUntilFresh(last, now) == 0;
    };
    sweep_.run(pending_.isEmpty() ? 2 : kPasses, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      if (pass == 0) return allowedAt_.sweep(cursor, old);
      return pass == 1 ? offenders_.sweepBans(cursor, over)
                       : pending_.sweep(pass - 2, cursor, useless);
    });
    return removed;
  }

  // Whether nothing is known of anybody.
  bool isEmpty() const noexcept {
    return peers() == 0 && offenders_.size() == 0 && pending_.isEmpty();
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    allowedAt_.clear();
    pending_.clear();
    offenders_.clear();
    sweep_.stop();
    both_ = 0;
  }

  Offenders& offenders() noexcept { return offenders_; }
  Counters& counters() noexcept { return counters_; }
  size_t peers() const noexcept { return allowedAt_.size() + offenders_.bans().size() - both_; }
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
    const auto violations = static_cast<double>(offenders_.violations(key.fingerprint));
    if (violations >= config_.violationBanThreshold) {
      if (!offenders_.canAdd(key)) return Verdict::kNeedsName;
      return beginBan(key, now);
    }
    if (last == nullptr && !pending_.isEmpty()) {
      const Verdict found = recall(key, now, last);
      if (found != Verdict::kAllowed) return found;
    }
    const double allowedAt = last == nullptr ? kNever : last->at;
    if (elapsed(now, allowedAt) >= effectiveInterval(violations)) {
      return setAllowedAt(last, key.fingerprint, now);
    }
    if (!offenders_.canAdd(key)) return Verdict::kNeedsName;
    return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kRefused;
  }

  // Gives the peer the time that is awaited of it, if there is one and it has none.
  RELAY_LIMITER_NOINLINE Verdict recall(const Key& key, double now, LastAllowed*& last) noexcept {
    last = allowedAt_.find(key.fingerprint);
    if (last != nullptr) return Verdict::kAllowed;
    if (key.text == nullptr && pending_.needsText()) return Verdict::kNeedsName;
    const LastAllowed* awaited = pending_.find(key);
    if (awaited == nullptr) return Verdict::kAllowed;
    const double at = awaited->at;
    const Verdict added = setAllowedAt(last, key.fingerprint, now);
    if (added != Verdict::kAllowed) return added;
    last = allowedAt_.find(key.fingerprint);
    last->at = at;
    pending_.forget(key);
    return Verdict::kAllowed;
  }

  void remove(const Fingerprint& fingerprint) noexcept {
    const bool banned = isInBans(fingerprint);
    if (erase(allowedAt_, fingerprint) && banned) --both_;
    offenders_.forgive(fingerprint);
  }

  // Seconds until the peer's interval is over, if it is no offender.
  double secondsUntilFresh(const LastAllowed& last, double now) const noexcept {
    return secondsLeft(effectiveInterval(0), elapsed(now, last.at));
  }

  // Writes to `last`, or where that is nullptr to the record that the peer has or gets.
  Verdict setAllowedAt(LastAllowed* last, const Fingerprint& fingerprint, double at) noexcept {
    if (last == nullptr) last = allowedAt_.find(fingerprint);
    if (last == nullptr) {
      const auto admission = admit(fingerprint, at, EvictionCost::ofBanned(), kMostLookedAt);
      if (!admission.isAllowed) return Verdict::kNoRoom;
      last = admission.insert(allowedAt_, fingerprint);
      if (last == nullptr) return Verdict::kNoMemory;
      evict(admission, true);
    }
    *last = {fingerprint, at};
    return Verdict::kAllowed;
  }

  // A ban may be all that is known of a peer.
  Verdict beginBan(const Key& key, double now) noexcept {
    const bool isKnown = allowedAt_.find(key.fingerprint) != nullptr;
    const auto admission =
        isKnown ? Admission<LastAllowed>::withoutEviction()
                : admit(key.fingerprint, now, EvictionCost::ofBanned(), kMostLookedAt);
    if (!admission.isAllowed) return Verdict::kNoRoom;
    if (!offenders_.beginBan(key, now)) return Verdict::kNoMemory;
    evict(admission, false);
    if (isKnown) ++both_;
    return Verdict::kBanBegins;
  }

  // Room for a newcomer: where there are maxPeers, one that is missed less goes.
  RELAY_LIMITER_NOINLINE Admission<LastAllowed> admit(const Fingerprint& fingerprint, double now,
                                                      const EvictionCost& newcomerCost,
                                                      unsigned most) noexcept {
    if (static_cast<double>(peers()) < config_.maxPeers)
      return Admission<LastAllowed>::withoutEviction();
    if (offenders_.areAllBanned(peers(), now, config_.banDuration))
      return Admission<LastAllowed>::denied();
    EvictionCandidate<LastAllowed> best(newcomerCost);
    offerSample(allowedAt_, offenders_, fingerprint, most, best,
                [&](LastAllowed& last) { return offer(best, last, now); });
    // Of some peers only a ban is known, which may be over.
    const Ban* lapsed = nullptr;
    if (!best.cost().isZero() && offenders_.bans().size() > both_ &&
        offenders_.bans().mayAnyBeOver(now, config_.banDuration)) {
      const unsigned others = best.record() == nullptr ? most : kSample;
      offenders_.sampleBans(fingerprint, others, [&](const Ban& ban) {
        if (elapsed(now, ban.began) >= config_.banDuration) lapsed = &ban;
        return lapsed != nullptr;
      });
    }
    if (lapsed != nullptr) {
      const Fingerprint& key = lapsed->fingerprint;
      return Admission<LastAllowed>::byEviction(allowedAt_.find(key), key,
                                                EvictionCost::ofClean(0));
    }
    if (best.record() == nullptr) return Admission<LastAllowed>::denied();
    return Admission<LastAllowed>::byEviction(best.record(), best.record()->fingerprint,
                                              best.cost());
  }

  // The victim of a room is forgotten. `isTaken`: its record, if it had one, is the newcomer's
  // already.
  void evict(const Admission<LastAllowed>& admission, bool isTaken) noexcept {
    if (!admission.needsEviction) return;
    counters_.countEviction(admission.cost);
    if (admission.record != nullptr && isInBans(admission.evicted)) --both_;
    if (!isTaken) erase(allowedAt_, admission.evicted);
    offenders_.forgive(admission.evicted);
  }

  bool offer(EvictionCandidate<LastAllowed>& best, LastAllowed& last, double now) noexcept {
    const double idle = elapsed(now, last.at);
    const double interval = effectiveInterval(0);
    // After a ban that is over its peer is as a fresh one, and was idle for at least as long.
    if (!best.canImprove(secondsLeft(std::min(interval, config_.banDuration), idle))) return false;
    const double seconds = secondsLeft(interval, idle);
    return best.offer(last, offenders_.evictionCostOf(last.fingerprint, seconds, 0, idle, now,
                                                      config_.banDuration));
  }

  bool isInBans(const Fingerprint& fingerprint) noexcept {
    return offenders_.bans().beganAt(fingerprint) != kNever;
  }

  double effectiveInterval(double violations) const noexcept {
    if (violations < config_.violationWarningThreshold) return config_.interval;
    if (violations < config_.violationSevereThreshold) return config_.interval * 6;
    return config_.interval * 30;
  }

  const Config config_;
  // When each peer was last allowed.
  AllowedTimes allowedAt_;
  PendingRecords<LastAllowed> pending_;
  Offenders offenders_;
  // Peers with a time and a ban, over or not.
  size_t both_ = 0;
  Sweep sweep_;
  Counters counters_;
};

}  // namespace relay_limiter
