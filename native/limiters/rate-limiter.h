// RateLimiter's decisions. Twin of lib/engine/js/rate-limiter.ts: same names, same order of
// statements.
#pragma once

#include "../memory/compiler.h"
#include "counters.h"
#include "eviction.h"
#include "offenders.h"
#include "pending.h"
#include "records.h"
#include "sweep.h"
#include "verdict.h"

namespace relay_limiter {

class RateLimiter {
 public:
  // Of a sweep: the buckets, and those that are awaited.
  static constexpr unsigned kPasses = 1 + PendingRecords<Bucket>::kMostSecrets;

  struct Config {
    double rateLimit;
    double burstLimit;
    // Infinity: never.
    double disconnectThreshold;
    double maxPeers;
  };

  explicit RateLimiter(const Config& config) noexcept
      : config_(config), offenders_(config.maxPeers) {}

  // `delay` is written when refused: the seconds until the cost is there.
  Verdict check(const Key& key, double cost, double now, double& delay) noexcept {
    return counters_.count(decide(bucketOf(key, now), key, cost, now, delay));
  }

  // The same for a peer whose bucket may be at hand; where it is nullptr it is written.
  Verdict check(const Key& key, Bucket*& bucket, double cost, double now, double& delay) noexcept {
    if (bucket == nullptr) {
      if (key.text == nullptr && pending_.needsText()) return Verdict::kNeedsName;
      bucket = bucketOf(key, now);
    }
    return counters_.count(decide(bucket, key, cost, now, delay));
  }

  // Whether the short way is open: always, since nobody is banned.
  static constexpr bool canUseFastPath() noexcept { return true; }

  // The short way of a check, as a function of the bucket: takes the cost if it is there. If not,
  // nothing has been decided, and check() at the same instant decides. It holds what it needs by
  // value, so that a loop reads that once.
  auto fastPath(double cost, double now) const noexcept {
    return [cost, now, rate = config_.rateLimit,
            capacity = config_.burstLimit](Bucket& bucket) noexcept {
      return consume(bucket.tokens, bucket.lastRefill, cost, now, rate, capacity);
    };
  }

  const Buckets& buckets() const noexcept { return buckets_; }

  double delay(const Key& key) noexcept {
    const Bucket* bucket = findBucket(key);
    return bucket == nullptr
               ? 0.0
               : delaySeconds(bucket->tokens, 1, config_.rateLimit, config_.burstLimit);
  }

  // Puts an offender back: violations become as many, and of two buckets the emptier one stays. A
  // peer that is not known gets a full one, if the snapshot has none, and if there is room or one
  // of `most` that are looked at is missed less; else `kNoRoom`.
  Verdict restore(const Key& key, const Offence& offence, double now, unsigned most) noexcept {
    Bucket* bucket = buckets_.find(key.fingerprint);
    if (bucket == nullptr) {
      const Verdict added = add(key.fingerprint, now, offence.evictionCost(), most, bucket);
      if (bucket == nullptr) return added;
      *bucket = {key.fingerprint, config_.burstLimit, now - offence.idleSeconds};
      pending_.take(key, *bucket);
    }
    if (offence.bucket.isThere()) {
      const Bucket saved = offence.bucket.restored(key.fingerprint, now);
      if (isStricter(saved, *bucket)) *bucket = saved;
    }
    return offenders_.restore(key, offence.violations, kNever) ? Verdict::kAllowed
                                                               : Verdict::kNoMemory;
  }

  // Asks for the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    buckets_.prepare(fingerprint);
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
    if (!saved.bucket.isThere()) return Verdict::kNoRoom;
    const Bucket bucket = saved.bucket.restored(saved.digest, now);
    const auto stricter = [this](const Bucket& a, const Bucket& b) { return isStricter(a, b); };
    return pending_.put(secret, isOwn, bucket, config_.maxPeers, stricter);
  }

  // What a snapshot says of a peer's bucket.
  SavedBucket savedBucket(const Fingerprint& fingerprint, double now) const noexcept {
    const Bucket* bucket = buckets_.find(fingerprint);
    if (bucket == nullptr || !isSaved(*bucket, now)) return SavedBucket::none();
    return SavedDigest::of(*bucket, now).bucket;
  }

  static constexpr unsigned kSnapshotPasses = PendingRecords<Bucket>::kMostSecrets + 1;

  // Visits some of the peers that are not among the named offenders up to `order`, in passes, as
  // sweepUntold() does. Those that are awaited come first: one that comes back meanwhile is visited
  // again in its table.
  template <class UseOffender, class UseDigest>
  bool sweepOthers(unsigned pass, uint64_t& cursor, double now, uint64_t order,
                   UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    const auto isSaved = [&](const Bucket& bucket) { return this->isSaved(bucket, now); };
    constexpr unsigned kSecrets = PendingRecords<Bucket>::kMostSecrets;
    if (pass < kSecrets) return sweepPending(pending_, pass, cursor, now, isSaved, useDigest);
    return sweepUntold(buckets_, offenders_, cursor, now, banDuration(), order, isSaved,
                       useOffender, useDigest);
  }

  // Seconds since the peer's last refill; infinity where it has no bucket.
  double idleSeconds(const Fingerprint& fingerprint, double now) const noexcept {
    const Bucket* bucket = buckets_.find(fingerprint);
    return bucket == nullptr ? kInfinity : elapsed(now, bucket->lastRefill);
  }

  double tokens(const Key& key) noexcept {
    const Bucket* bucket = findBucket(key);
    return bucket == nullptr ? config_.burstLimit : bucket->tokens;
  }

  void removePeer(const Key& key) noexcept {
    erase(buckets_, key.fingerprint);
    offenders_.forgive(key.fingerprint);
    pending_.forget(key);
  }

  uint64_t cleanup(double maxIdle, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto idle = [&](Bucket& bucket) {
      if (!(elapsed(now, bucket.lastRefill) > maxIdle)) return false;
      offenders_.forgive(bucket.fingerprint);
      ++removed;
      return true;
    };
    const auto useless = [&](const Secret&, const Bucket& bucket) {
      return elapsed(now, bucket.lastRefill) > maxIdle || secondsUntilFull(bucket, now) == 0;
    };
    sweep_.run(pending_.isEmpty() ? 1 : kPasses, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      return pass == 0 ? buckets_.sweep(cursor, idle) : pending_.sweep(pass - 1, cursor, useless);
    });
    return removed;
  }

  // Whether nothing is known of anybody.
  bool isEmpty() const noexcept { return peers() == 0 && pending_.isEmpty(); }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    buckets_.clear();
    offenders_.clear();
    pending_.clear();
    sweep_.stop();
  }

  Offenders& offenders() noexcept { return offenders_; }
  Counters& counters() noexcept { return counters_; }
  size_t peers() const noexcept { return buckets_.size(); }
  size_t tracked() const noexcept { return buckets_.size(); }
  size_t memoryBytes() const noexcept {
    return buckets_.memoryBytes() + pending_.memoryBytes() + offenders_.memoryBytes();
  }
  // Bans nobody.
  double banDuration() const noexcept { return 0; }

 private:
  // The peer's bucket, which may be awaited; nullptr if it has none.
  const Bucket* findBucket(const Key& key) noexcept {
    const Bucket* bucket = buckets_.find(key.fingerprint);
    return bucket == nullptr ? pending_.find(key) : bucket;
  }

  // The peer's bucket, made full if it has none; nullptr where there is no memory.
  Bucket* bucketOf(const Key& key, double now) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    Bucket* bucket = buckets_.find(fingerprint);
    if (bucket != nullptr) return bucket;
    // Nobody is banned, so somebody can go.
    add(fingerprint, now, EvictionCost::ofBanned(), kMostLookedAt, bucket);
    if (bucket == nullptr) return nullptr;
    *bucket = {fingerprint, config_.burstLimit, now};
    pending_.take(key, *bucket);
    return bucket;
  }

  double secondsUntilFull(const Bucket& bucket, double now) const noexcept {
    return relay_limiter::secondsUntilFull(bucket.tokens, bucket.lastRefill, now, config_.rateLimit,
                                           config_.burstLimit);
  }

  bool isSaved(const Bucket& bucket, double now) const noexcept {
    return secondsUntilFull(bucket, now) > kSnapshotSeconds;
  }

  bool isStricter(const Bucket& a, const Bucket& b) const noexcept {
    return isEmptier(a, b, config_.rateLimit, config_.burstLimit);
  }

  // A bucket for a newcomer, in the place of a peer that is missed less, if there are maxPeers.
  // Where `bucket` stays nullptr the answer says why.
  RELAY_LIMITER_NOINLINE Verdict add(const Fingerprint& fingerprint, double now,
                                     const EvictionCost& newcomerCost, unsigned most,
                                     Bucket*& bucket) noexcept {
    if (static_cast<double>(peers()) < config_.maxPeers) {
      bucket = buckets_.insert(fingerprint);
      return bucket == nullptr ? Verdict::kNoMemory : Verdict::kAllowed;
    }
    EvictionCandidate<Bucket> best(newcomerCost);
    offerSample(buckets_, offenders_, fingerprint, most, best, [&](Bucket& candidate) {
      const double seconds = secondsUntilFull(candidate, now);
      if (!best.canImprove(seconds)) return false;
      const double idle = elapsed(now, candidate.lastRefill);
      return best.offer(candidate, offenders_.evictionCostOf(candidate.fingerprint, seconds,
                                                             seconds, idle, now, 0));
    });
    if (best.record() == nullptr) return Verdict::kNoRoom;
    const Fingerprint evicted = best.record()->fingerprint;
    bucket = buckets_.replace(best.record(), fingerprint);
    if (bucket == nullptr) return Verdict::kNoMemory;
    counters_.countEviction(best.cost());
    offenders_.forgive(evicted);
    return Verdict::kAllowed;
  }

  Verdict decide(Bucket* bucket, const Key& key, double cost, double now, double& delay) noexcept {
    if (bucket == nullptr) return Verdict::kNoMemory;
    if (consume(bucket->tokens, bucket->lastRefill, cost, now, config_.rateLimit,
                config_.burstLimit)) {
      return Verdict::kAllowed;
    }
    if (!offenders_.canAdd(key)) return Verdict::kNeedsName;
    const uint64_t violations = offenders_.addViolation(key);
    if (violations == 0) return Verdict::kNoMemory;
    if (static_cast<double>(violations) >= config_.disconnectThreshold) return Verdict::kDisconnect;
    delay = delaySeconds(bucket->tokens, cost, config_.rateLimit, config_.burstLimit);
    return Verdict::kRefused;
  }

  const Config config_;
  Buckets buckets_;
  PendingRecords<Bucket> pending_;
  Offenders offenders_;
  Sweep sweep_;
  Counters counters_;
};

}  // namespace relay_limiter
