// RateLimiter decides the checks of the public class RateLimiter. Counterpart of
// lib/engine/js/rate-limiter.ts.
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

struct RateLimiterConfig {
  // In tokens per second.
  double rateLimit;
  double burstLimit;
  // Infinity means never.
  double disconnectThreshold;
  double maxPeers;
};

template <class Storage>
class BasicRateLimiter {
  using Pending = typename Storage::template Pending<Bucket>;

 public:
  using Config = RateLimiterConfig;
  using Offenders = BasicOffenders<Storage, NoBans>;
  using Buckets = typename Storage::template Table<Bucket>;

  static constexpr unsigned kSecrets = Pending::kMostSecrets;
  // The passes of a cleanup: the buckets, and the pending buckets of each secret.
  static constexpr unsigned kPasses = 1 + kSecrets;

  explicit BasicRateLimiter(const Config& config, const Storage& storage = Storage()) noexcept
      : config_(config),
        parameters_{config.rateLimit, config.burstLimit},
        counters_(storage.template value<Counters>()),
        buckets_(storage.template table<Bucket>()),
        offenders_(config.maxPeers, storage) {}

  // `bucket` is the peer's if it is known; if it is nullptr, it is set.
  Verdict check(const Key& key, Bucket*& bucket, double cost, double now) noexcept {
    if (bucket == nullptr) {
      if (key.text == nullptr && pending_.needsText()) return Verdict::kNeedsText;
      bucket = findOrAddBucket(key, now);
    }
    return counters_->count(decide(bucket, key, cost, now));
  }

  // Always true, because this limiter bans no peer.
  static constexpr bool canUseFastPath() noexcept { return true; }

  // Returns a function of a bucket that takes the cost if the bucket has it. If it returns false,
  // nothing is decided or counted: call refuse().
  auto fastPath(double cost, double now) const noexcept { return parameters_.consumer(cost, now); }

  // Refuses a check that the fast path does not allow. `findOffender` returns the offender of the
  // peer, or nullptr; then this returns kNeedsText: call check() at the same instant.
  template <class FindOffender>
  Verdict refuse(FindOffender&& findOffender) noexcept {
    Offender* offender = findOffender();
    if (offender == nullptr) return Verdict::kNeedsText;
    return counters_->count(verdictAfter(offenders_.addViolation(*offender)));
  }

  // Seconds from the last refill until the bucket has `cost` tokens.
  double delaySeconds(const Bucket& bucket, double cost) const noexcept {
    return parameters_.delaySeconds(bucket, cost);
  }

  const Buckets& buckets() const noexcept { return buckets_; }

  double delay(const Key& key) noexcept {
    const Bucket* bucket = findBucket(key);
    return bucket == nullptr ? 0.0 : parameters_.delaySeconds(*bucket, 1);
  }

  // Restores an offender: raises its violations to those of the snapshot, and keeps the emptier of
  // its bucket and the saved one. A new peer starts with its pending bucket or a full one. kNoRoom
  // if there are maxPeers peers and none of up to `most` records may be evicted for a new peer.
  Verdict restore(const Key& key, const SavedOffender& saved, double now, unsigned most) noexcept {
    Bucket* bucket = buckets_.find(key.fingerprint);
    if (bucket == nullptr) {
      const Verdict added = add(key.fingerprint, now, saved.evictionCost(), most, bucket);
      if (bucket == nullptr) return added;
      *bucket = parameters_.fullBucket(key.fingerprint, now - saved.idleSeconds);
      pending_.take(key, *bucket);
    }
    if (saved.bucket.isPresent()) {
      const Bucket restored = saved.bucket.toBucket(key.fingerprint, now);
      if (parameters_.isEmptier(restored, *bucket)) bucket->set(restored);
    }
    return offenders_.restore(key, saved.violations, kNever) ? Verdict::kAllowed
                                                             : Verdict::kNoMemory;
  }

  // Fetches the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    buckets_.prepare(fingerprint);
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
  // snapshot has no bucket, or if maxPeers records or too many secrets are pending.
  Verdict restoreDigest(const Secret& secret, bool isOwn, const SavedDigest& saved,
                        double now) noexcept {
    if (!saved.bucket.isPresent()) return Verdict::kNoRoom;
    const Bucket bucket = saved.bucket.toBucket(saved.digest, now);
    const auto isStricter = [this](const Bucket& a, const Bucket& b) {
      return parameters_.isEmptier(a, b);
    };
    return pending_.put(secret, isOwn, bucket, config_.maxPeers, isStricter);
  }

  // The peer's bucket as a snapshot saves it.
  SavedBucket savedBucket(const Fingerprint& fingerprint, double now) const noexcept {
    return parameters_.saved(buckets_.find(fingerprint), now);
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
    const auto isSaved = [&](const Bucket& bucket) {
      return parameters_.secondsUntilFull(bucket, now) > kSnapshotSeconds;
    };
    if (pass < kSecrets) {
      return pending_.sweep(pass, cursor, pendingSnapshotVisitor(now, isSaved, useDigest));
    }
    return buckets_.sweep(cursor, snapshotVisitor(offenders_, now, banDuration(), order, isSaved,
                                                  useOffender, useDigest));
  }

  // Seconds since the last refill of the peer's bucket; infinity without a bucket.
  double idleSeconds(const Fingerprint& fingerprint, double now) const noexcept {
    const Bucket* bucket = buckets_.find(fingerprint);
    return bucket == nullptr ? kInfinity : elapsed(now, bucket->lastRefill);
  }

  double tokens(const Key& key) noexcept {
    const Bucket* bucket = findBucket(key);
    return bucket == nullptr ? parameters_.capacity : bucket->tokens;
  }

  // The tokens that a check at `now` would find.
  double refilledTokens(const Key& key, double now) noexcept {
    const Bucket* bucket = findBucket(key);
    return bucket == nullptr ? parameters_.capacity : parameters_.refilledTokens(*bucket, now);
  }

  void removePeer(const Key& key) noexcept {
    erase(buckets_, key.fingerprint);
    offenders_.forgive(key.fingerprint);
    pending_.remove(key);
  }

  // Removes idle peers and returns their number, which does not include pending records.
  uint64_t cleanup(double maxIdle, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto expireBucket = [&](Bucket& bucket) {
      if (!(elapsed(now, bucket.lastRefill) > maxIdle)) return false;
      offenders_.forgive(bucket.fingerprint);
      ++removed;
      return true;
    };
    const auto expirePending = [&](const Secret&, const Bucket& bucket) {
      return elapsed(now, bucket.lastRefill) > maxIdle ||
             parameters_.secondsUntilFull(bucket, now) == 0;
    };
    sweep_.run(pending_.isEmpty() ? 1 : kPasses, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      return pass == 0 ? buckets_.sweep(cursor, expireBucket)
                       : pending_.sweep(pass - 1, cursor, expirePending);
    });
    return removed;
  }

  // Whether the limiter stores nothing of any peer.
  bool isEmpty() const noexcept { return peers() == 0 && pending_.isEmpty(); }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    buckets_.clear();
    offenders_.clear();
    pending_.clear();
    sweep_.stop();
  }

  // Restores a peer by its fingerprint, of which a snapshot has no more than a bucket. Keeps the
  // emptier of two buckets. kNoRoom if no peer may be evicted for a new one.
  Verdict restorePeer(const SavedDigest& saved, double now) noexcept {
    if (!saved.bucket.isPresent()) return Verdict::kNoRoom;
    const Bucket restored = saved.bucket.toBucket(saved.digest, now);
    Bucket* bucket = buckets_.find(saved.digest);
    if (bucket == nullptr) {
      const auto cost = EvictionCost::ofClean(parameters_.secondsUntilFull(restored, now));
      const Verdict added = add(saved.digest, now, cost, kSample, bucket);
      if (bucket == nullptr) return added;
      *bucket = restored;
    } else if (parameters_.isEmptier(restored, *bucket)) {
      bucket->set(restored);
    }
    return Verdict::kAllowed;
  }

  // Makes the tables consistent again after an operation on them was interrupted.
  void repair() noexcept {
    buckets_.repair();
    offenders_.repair([&](const Fingerprint& peer) { return buckets_.find(peer) != nullptr; });
  }

  Offenders& offenders() noexcept { return offenders_; }
  Counters& counters() noexcept { return *counters_; }
  size_t peers() const noexcept { return buckets_.size(); }
  size_t tracked() const noexcept { return buckets_.size(); }
  size_t memoryBytes() const noexcept {
    return buckets_.memoryBytes() + pending_.memoryBytes() + offenders_.memoryBytes();
  }
  // This limiter bans no peer.
  double banDuration() const noexcept { return 0; }

 private:
  // The peer's bucket, pending or not; nullptr if it has none.
  const Bucket* findBucket(const Key& key) noexcept {
    const Bucket* bucket = buckets_.find(key.fingerprint);
    return bucket == nullptr ? pending_.find(key) : bucket;
  }

  // The peer's bucket. A new peer gets its pending bucket or a full one. nullptr if there is no
  // memory.
  Bucket* findOrAddBucket(const Key& key, double now) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    Bucket* bucket = buckets_.find(fingerprint);
    if (bucket != nullptr) return bucket;
    // This limiter bans no peer, so it can always evict one.
    add(fingerprint, now, EvictionCost::ofBanned(), kMostLookedAt, bucket);
    if (bucket == nullptr) return nullptr;
    pending_.take(key, *bucket);
    return bucket;
  }

  // Adds a full bucket for a new peer. If there are maxPeers peers, one with a lower cost is
  // evicted. If `bucket` stays nullptr, the verdict says why.
  RELAY_LIMITER_NOINLINE Verdict add(const Fingerprint& fingerprint, double now,
                                     const EvictionCost& newcomerCost, unsigned most,
                                     Bucket*& bucket) noexcept {
    if (static_cast<double>(peers()) < config_.maxPeers) {
      bucket = buckets_.insert(fingerprint);
      if (bucket == nullptr) return Verdict::kNoMemory;
      *bucket = parameters_.fullBucket(fingerprint, now);
      return Verdict::kAllowed;
    }
    EvictionCandidate<Bucket> best(newcomerCost);
    offerSample(buckets_, offenders_, fingerprint, most, best, [&](Bucket& candidate) {
      const double seconds = parameters_.secondsUntilFull(candidate, now);
      if (!best.canImprove(seconds)) return false;
      const double idle = elapsed(now, candidate.lastRefill);
      return best.offer(candidate, offenders_.evictionCostOf(candidate.fingerprint, seconds,
                                                             seconds, idle, now, banDuration()));
    });
    if (best.record() == nullptr) return Verdict::kNoRoom;
    const Fingerprint evicted = best.record()->fingerprint;
    bucket = buckets_.replace(best.record(), fingerprint);
    if (bucket == nullptr) return Verdict::kNoMemory;
    *bucket = parameters_.fullBucket(fingerprint, now);
    counters_->countEviction(best.cost());
    offenders_.forgive(evicted);
    return Verdict::kAllowed;
  }

  Verdict decide(Bucket* bucket, const Key& key, double cost, double now) noexcept {
    if (bucket == nullptr) return Verdict::kNoMemory;
    if (parameters_.consume(*bucket, cost, now)) return Verdict::kAllowed;
    if (!offenders_.canAdd(key)) return Verdict::kNeedsText;
    const uint64_t violations = offenders_.addViolation(key);
    return violations == 0 ? Verdict::kNoMemory : verdictAfter(violations);
  }

  // The verdict of a refusal that brings the peer to so many violations.
  Verdict verdictAfter(uint64_t violations) const noexcept {
    const bool isLast = static_cast<double>(violations) >= config_.disconnectThreshold;
    return isLast ? Verdict::kDisconnect : Verdict::kRefused;
  }

  const Config config_;
  const BucketParameters parameters_;
  typename Storage::template Stored<Counters> counters_;
  Buckets buckets_;
  Pending pending_;
  Offenders offenders_;
  Sweep sweep_;
};

using RateLimiter = BasicRateLimiter<PrivateStorage>;

}  // namespace relay_limiter
