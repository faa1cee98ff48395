// DirectConnectionRateLimiter's decisions. Twin of lib/engine/js/direct-limiter.ts: same names,
// same order of statements.
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

class DirectLimiter {
 public:
  static constexpr unsigned kSecrets = PendingRecords<Bucket>::kMostSecrets;
  // Of a sweep: buckets, times and bans, and the buckets and times that are awaited.
  static constexpr unsigned kPasses = 3 + 2 * kSecrets;

  struct Config {
    double messageRatePerSec;
    double messageBurst;
    double orderbookInterval;
    double orderbookBanThreshold;
    double banDuration;
    double maxPeers;
  };

  explicit DirectLimiter(const Config& config) noexcept
      : config_(config), offenders_(config.maxPeers) {}

  Verdict checkMessage(const Key& key, double cost, double now) noexcept {
    Bucket* bucket = nullptr;
    return checkMessage(key, bucket, cost, now);
  }

  // The same for a connection whose bucket may be at hand; where it is nullptr it is written.
  Verdict checkMessage(const Key& key, Bucket*& bucket, double cost, double now) noexcept {
    return counters_.count(decide(key, bucket, cost, now));
  }

  // Whether the short way is open: not while somebody may be banned.
  bool canUseFastPath() const noexcept { return offenders_.bans().isEmpty(); }

  // The short way of a check, as a function of the bucket: takes the cost if it is there. If not,
  // nothing has been decided, and checkMessage() at the same instant decides. It holds what it
  // needs by value, so that a loop reads that once.
  auto fastPath(double cost, double now) const noexcept {
    return [cost, now, rate = config_.messageRatePerSec,
            capacity = config_.messageBurst](Bucket& bucket) noexcept {
      return consume(bucket.tokens, bucket.lastRefill, cost, now, rate, capacity);
    };
  }

  const Buckets& buckets() const noexcept { return buckets_; }

  // `last` is the connection's, nullptr where it has none.
  Verdict checkOrderbook(const Key& key, LastAllowed* last, double now) noexcept {
    return counters_.count(decideOrderbook(key, last, now));
  }

  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  bool isBanned(const Fingerprint& fingerprint, double now) noexcept {
    const double bannedAt = offenders_.bans().beganAt(fingerprint);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    offenders_.liftBan(fingerprint);
    return false;
  }

  // Puts an offender back: its violations become as many, its ban ends as late, and it gets a time
  // unless it has one; if there is room, or one of `most` that are looked at is missed less; else
  // `kNoRoom`.
  Verdict restore(const Key& key, const Offence& offence, double now, unsigned most) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    // Or a ban that is over would be lengthened.
    inBan(fingerprint, now);
    if (allowedAt_.find(fingerprint) == nullptr) {
      LastAllowed* last = nullptr;
      const Verdict added = addTime(key, kNever, now, last, offence.evictionCost(), most);
      if (last == nullptr) return added;
      last->at = std::max(last->at, now - offence.idleSeconds);
    }
    if (offence.bucket.isThere()) {
      const Verdict restored = restoreBucket(key, offence.bucket, now);
      if (restored != Verdict::kAllowed) return restored;
    }
    const double began = offence.banBegan(now, config_.banDuration);
    return offenders_.restore(key, offence.violations, began) ? Verdict::kAllowed
                                                              : Verdict::kNoMemory;
  }

  // Asks for the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    buckets_.prepare(fingerprint);
    allowedAt_.prepare(fingerprint);
    offenders_.prepare(fingerprint);
  }

  // A random key, before the first digest.
  void setDigestKey(const Secret& key) noexcept {
    pendingBuckets_.setKey(key);
    pendingTimes_.setKey(key);
  }

  // Asks for the memory that restoreDigest() will read.
  RELAY_LIMITER_INLINE void prepareDigest(const Secret& secret,
                                          const Fingerprint& digest) const noexcept {
    pendingBuckets_.prepare(secret, digest);
    pendingTimes_.prepare(secret, digest);
  }

  // Keeps what a snapshot says under a digest until its connection comes; `kNoRoom` if as many as
  // maxPeers are awaited.
  Verdict restoreDigest(const Secret& secret, bool isOwn, const SavedDigest& saved,
                        double now) noexcept {
    const auto stricter = [this](const Bucket& a, const Bucket& b) { return isStricter(a, b); };
    Verdict verdict = Verdict::kNoRoom;
    if (saved.bucket.isThere()) {
      const Bucket bucket = saved.bucket.restored(saved.digest, now);
      verdict = pendingBuckets_.put(secret, isOwn, bucket, config_.maxPeers, stricter);
    }
    if (saved.hasTime() && verdict != Verdict::kNoMemory) {
      const LastAllowed last = saved.restoredTime(now);
      const Verdict put = pendingTimes_.put(secret, isOwn, last, config_.maxPeers, isLater);
      if (put != Verdict::kNoRoom) verdict = put;
    }
    return verdict;
  }

  // What a snapshot says of a connection's bucket.
  SavedBucket savedBucket(const Fingerprint& fingerprint, double now) const noexcept {
    const Bucket* bucket = buckets_.find(fingerprint);
    if (bucket == nullptr || !isSaved(*bucket, now)) return SavedBucket::none();
    return SavedDigest::of(*bucket, now).bucket;
  }

  static constexpr unsigned kSnapshotPasses = 2 * kSecrets + 2;

  // Visits some of the connections that are not among the named offenders up to `order`, in passes,
  // as sweepUntold() does. Those that are awaited come first: one that comes back meanwhile is
  // visited again in its table.
  template <class UseOffender, class UseDigest>
  bool sweepOthers(unsigned pass, uint64_t& cursor, double now, uint64_t order,
                   UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    const auto isSaved = [&](const auto& record) { return this->isSaved(record, now); };
    if (pass < kSecrets)
      return sweepPending(pendingBuckets_, pass, cursor, now, isSaved, useDigest);
    if (pass < 2 * kSecrets) {
      return sweepPending(pendingTimes_, pass - kSecrets, cursor, now, isSaved, useDigest);
    }
    const auto sweep = [&](auto& table) {
      return sweepUntold(table, offenders_, cursor, now, banDuration(), order, isSaved, useOffender,
                         useDigest);
    };
    return pass == 2 * kSecrets ? sweep(buckets_) : sweep(allowedAt_);
  }

  // Seconds since the connection's last allowed orderbook request; infinity where there was none.
  double idleSeconds(const Fingerprint& fingerprint, double now) const noexcept {
    const LastAllowed* last = allowedAt_.find(fingerprint);
    return last == nullptr ? kInfinity : elapsed(now, last->at);
  }

  double tokens(const Key& key) noexcept {
    const Bucket* bucket = buckets_.find(key.fingerprint);
    if (bucket == nullptr) bucket = pendingBuckets_.find(key);
    return bucket == nullptr ? config_.messageBurst : bucket->tokens;
  }

  void removePeer(const Key& key) noexcept {
    remove(key.fingerprint);
    pendingBuckets_.forget(key);
    pendingTimes_.forget(key);
  }

  uint64_t cleanup(double maxAge, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto silent = [&](const Bucket& bucket) {
      if (!(elapsed(now, bucket.lastRefill) > maxAge)) return false;
      if (allowedAt_.find(bucket.fingerprint) != nullptr) --both_;
      ++removed;
      return true;
    };
    const auto old = [&](const LastAllowed& last) {
      if (!(elapsed(now, last.at) > maxAge)) return false;
      if (offenders_.bans().beganAt(last.fingerprint) != kNever) return false;
      if (buckets_.find(last.fingerprint) != nullptr) --both_;
      offenders_.forgive(last.fingerprint);
      return true;
    };
    const auto over = [&](const Ban& ban) { return elapsed(now, ban.began) > config_.banDuration; };
    const auto useless = [&](const Secret&, const auto& record) {
      return idleOf(record, now) > maxAge || secondsUntilFresh(record, now) == 0;
    };
    const bool awaitsAny = !pendingBuckets_.isEmpty() || !pendingTimes_.isEmpty();
    sweep_.run(awaitsAny ? kPasses : 3, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      if (pass == 0) return buckets_.sweep(cursor, silent);
      if (pass == 1) return allowedAt_.sweep(cursor, old);
      if (pass == 2) return offenders_.sweepBans(cursor, over);
      const unsigned index = (pass - 3) / 2;
      return pass % 2 == 1 ? pendingBuckets_.sweep(index, cursor, useless)
                           : pendingTimes_.sweep(index, cursor, useless);
    });
    return removed;
  }

  // Whether nothing is known of anybody.
  bool isEmpty() const noexcept {
    return peers() == 0 && offenders_.size() == 0 && pendingBuckets_.isEmpty() &&
           pendingTimes_.isEmpty();
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    buckets_.clear();
    allowedAt_.clear();
    pendingBuckets_.clear();
    pendingTimes_.clear();
    offenders_.clear();
    sweep_.stop();
    both_ = 0;
  }

  Offenders& offenders() noexcept { return offenders_; }
  Counters& counters() noexcept { return counters_; }
  size_t peers() const noexcept { return buckets_.size() + allowedAt_.size() - both_; }
  size_t tracked() const noexcept { return buckets_.size(); }
  size_t memoryBytes() const noexcept {
    return buckets_.memoryBytes() + allowedAt_.memoryBytes() + pendingBuckets_.memoryBytes() +
           pendingTimes_.memoryBytes() + offenders_.memoryBytes();
  }
  double banDuration() const noexcept { return config_.banDuration; }

 private:
  // `bucket` is written where it is nullptr.
  Verdict decide(const Key& key, Bucket*& bucket, double cost, double now) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    if (inBan(fingerprint, now)) return Verdict::kDisconnect;
    if (bucket == nullptr) bucket = buckets_.find(fingerprint);
    if (bucket == nullptr) {
      if (!canRecall(key)) return Verdict::kNeedsName;
      const Verdict added = addBucket(key, now, bucket);
      if (bucket == nullptr) return added;
    }
    return consume(bucket->tokens, bucket->lastRefill, cost, now, config_.messageRatePerSec,
                   config_.messageBurst)
               ? Verdict::kAllowed
               : Verdict::kRefused;
  }

  Verdict decideOrderbook(const Key& key, LastAllowed* last, double now) noexcept {
    if (inBan(key.fingerprint, now)) {
      return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kDisconnect;
    }
    if (last == nullptr) {
      if (!canRecall(key)) return Verdict::kNeedsName;
      const Verdict added = addTime(key, kNever, now, last);
      if (last == nullptr) return added;
    }
    if (elapsed(now, last->at) >= config_.orderbookInterval) {
      *last = {key.fingerprint, now};
      return Verdict::kAllowed;
    }
    if (!offenders_.canAdd(key)) return Verdict::kNeedsName;
    const uint64_t violations = offenders_.addViolation(key);
    if (violations == 0) return Verdict::kNoMemory;
    if (static_cast<double>(violations) < config_.orderbookBanThreshold) return Verdict::kRefused;
    return offenders_.beginBan(key, now) ? Verdict::kBanBegins : Verdict::kNoMemory;
  }

  // A bucket for a connection that has none: the one that is awaited, or a full one. Where `bucket`
  // stays nullptr the answer says why.
  Verdict addBucket(const Key& key, double now, Bucket*& bucket) noexcept {
    const Verdict added = add(buckets_, allowedAt_, key.fingerprint, now, bucket);
    if (bucket == nullptr) return added;
    *bucket = {key.fingerprint, config_.messageBurst, now};
    pendingBuckets_.take(key, *bucket);
    bring(pendingTimes_, allowedAt_, buckets_, key, now);
    return Verdict::kAllowed;
  }

  // A time for a connection that has none: the one that is awaited, or `at`. Where `last` stays
  // nullptr the answer says why.
  Verdict addTime(const Key& key, double at, double now, LastAllowed*& last,
                  const EvictionCost& newcomerCost = EvictionCost::ofBanned(),
                  unsigned most = kMostLookedAt) noexcept {
    const Verdict added = add(allowedAt_, buckets_, key.fingerprint, now, last, newcomerCost, most);
    if (last == nullptr) return added;
    *last = {key.fingerprint, at};
    pendingTimes_.take(key, *last);
    bring(pendingBuckets_, buckets_, allowedAt_, key, now);
    return Verdict::kAllowed;
  }

  // The first record of a connection also restores its pending record in the other table. If there
  // is no memory for it, the record stays pending.
  template <class Own, class Other>
  void bring(PendingRecords<Own>& pending, Table<Own>& own, Table<Other>& other, const Key& key,
             double now) noexcept {
    if (pending.isEmpty() || own.find(key.fingerprint) != nullptr) return;
    if (pending.find(key) == nullptr) return;
    Own* record = nullptr;
    add(own, other, key.fingerprint, now, record);
    if (record != nullptr) pending.take(key, *record);
  }

  // Whether the key brings what finds a record that is awaited.
  bool canRecall(const Key& key) const noexcept {
    return key.text != nullptr || !(pendingBuckets_.needsText() || pendingTimes_.needsText());
  }

  // Of two buckets the emptier one stays.
  Verdict restoreBucket(const Key& key, const SavedBucket& saved, double now) noexcept {
    Bucket* bucket = buckets_.find(key.fingerprint);
    if (bucket == nullptr) {
      const Verdict added = addBucket(key, now, bucket);
      if (bucket == nullptr) return added;
    }
    const Bucket restored = saved.restored(key.fingerprint, now);
    if (isStricter(restored, *bucket)) *bucket = restored;
    return Verdict::kAllowed;
  }

  void remove(const Fingerprint& fingerprint) noexcept {
    const bool hadBucket = erase(buckets_, fingerprint);
    const bool hadTime = erase(allowedAt_, fingerprint);
    if (hadBucket && hadTime) --both_;
    offenders_.forgive(fingerprint);
  }

  template <class Record>
  bool isSaved(const Record& record, double now) const noexcept {
    return secondsUntilFresh(record, now) > kSnapshotSeconds;
  }

  bool isStricter(const Bucket& a, const Bucket& b) const noexcept {
    return isEmptier(a, b, config_.messageRatePerSec, config_.messageBurst);
  }

  // A record in `own`, which has none of this connection; `other` may know it. Where `record` stays
  // nullptr the answer says why.
  template <class Own, class Other>
  RELAY_LIMITER_NOINLINE Verdict add(Table<Own>& own, Table<Other>& other,
                                     const Fingerprint& fingerprint, double now, Own*& record,
                                     const EvictionCost& newcomerCost = EvictionCost::ofBanned(),
                                     unsigned most = kMostLookedAt) noexcept {
    const bool isKnown = other.find(fingerprint) != nullptr;
    const auto admission = isKnown ? Admission<Own>::withoutEviction()
                                   : admit(own, other, fingerprint, now, newcomerCost, most);
    if (!admission.isAllowed) return Verdict::kNoRoom;
    record = admission.insert(own, fingerprint);
    if (record == nullptr) return Verdict::kNoMemory;
    evict(admission, other);
    if (isKnown) ++both_;
    return Verdict::kAllowed;
  }

  // Room for a newcomer, in `own` if that can be: where there are maxPeers, one that is missed less
  // goes.
  template <class Own, class Other>
  Admission<Own> admit(Table<Own>& own, Table<Other>& other, const Fingerprint& fingerprint,
                       double now, const EvictionCost& newcomerCost, unsigned most) noexcept {
    if (static_cast<double>(peers()) < config_.maxPeers) return Admission<Own>::withoutEviction();
    if (offenders_.areAllBanned(peers(), now, config_.banDuration)) return Admission<Own>::denied();
    EvictionCandidate<Own> best(newcomerCost);
    offerSample(own, offenders_, fingerprint, most, best,
                [&](Own& record) { return offer(best, record, other, now); });
    // Of some connections only the other table knows.
    EvictionCandidate<Other> otherTableCandidate(best.cost());
    if (!best.cost().isZero() && other.size() > both_) {
      const unsigned others = best.record() == nullptr ? most : kSample;
      offerSample(other, offenders_, fingerprint, others, otherTableCandidate,
                  [&](Other& record) { return offer(otherTableCandidate, record, own, now); });
    }
    if (otherTableCandidate.record() != nullptr) {
      const Fingerprint& key = otherTableCandidate.record()->fingerprint;
      return Admission<Own>::byEviction(own.find(key), key, otherTableCandidate.cost());
    }
    if (best.record() == nullptr) return Admission<Own>::denied();
    return Admission<Own>::byEviction(best.record(), best.record()->fingerprint, best.cost());
  }

  // The victim of a room is forgotten: its record, if it had one, is the newcomer's already.
  template <class Own, class Other>
  void evict(const Admission<Own>& admission, Table<Other>& other) noexcept {
    if (!admission.needsEviction) return;
    counters_.countEviction(admission.cost);
    if (erase(other, admission.evicted) && admission.record != nullptr) --both_;
    offenders_.forgive(admission.evicted);
  }

  // A record of one table, whose connection the other table may know as well.
  template <class Record, class Other>
  bool offer(EvictionCandidate<Record>& best, Record& record, Table<Other>& other,
             double now) noexcept {
    double seconds = secondsUntilFresh(record, now);
    if (!best.canImprove(seconds)) return false;
    double idle = idleOf(record, now);
    if (const Other* second = other.find(record.fingerprint)) {
      seconds = std::max(seconds, secondsUntilFresh(*second, now));
      idle = std::min(idle, idleOf(*second, now));
    }
    const EvictionCost evictionCost = offenders_.evictionCostOf(
        record.fingerprint, seconds, seconds, idle, now, config_.banDuration);
    return best.offer(record, evictionCost);
  }

  double secondsUntilFresh(const Bucket& bucket, double now) const noexcept {
    return secondsUntilFull(bucket.tokens, bucket.lastRefill, now, config_.messageRatePerSec,
                            config_.messageBurst);
  }
  double secondsUntilFresh(const LastAllowed& last, double now) const noexcept {
    return secondsLeft(config_.orderbookInterval, idleOf(last, now));
  }
  static double idleOf(const Bucket& bucket, double now) noexcept {
    return elapsed(now, bucket.lastRefill);
  }
  static double idleOf(const LastAllowed& last, double now) noexcept {
    return elapsed(now, last.at);
  }

  // Whether a ban is in force, as a check sees it: one that is over goes, its violations with it.
  bool inBan(const Fingerprint& fingerprint, double now) noexcept {
    const double bannedAt = offenders_.bans().beganAt(fingerprint);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    offenders_.forgive(fingerprint);
    return false;
  }

  const Config config_;
  Buckets buckets_;
  // When each connection's orderbook request was last allowed.
  AllowedTimes allowedAt_;
  PendingRecords<Bucket> pendingBuckets_;
  PendingRecords<LastAllowed> pendingTimes_;
  Offenders offenders_;
  // Connections with a bucket and a time.
  size_t both_ = 0;
  Sweep sweep_;
  Counters counters_;
};

}  // namespace relay_limiter
