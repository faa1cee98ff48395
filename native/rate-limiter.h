// RateLimiter's decisions. Twin of lib/engine/js/rate-limiter.ts: same names, same order of
// statements.
#pragma once

#include "apart.h"
#include "offenders.h"
#include "records.h"
#include "sweep.h"
#include "tally.h"
#include "verdict.h"

namespace relay_limiter {

class RateLimiter {
 public:
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
    return tally_.count(decide(bucketOf(key.fingerprint, now), key, cost, now, delay));
  }

  // The same for a peer whose bucket may be at hand; where it is nullptr it is written.
  Verdict check(const Key& key, Bucket*& bucket, double cost, double now, double& delay) noexcept {
    if (bucket == nullptr) bucket = bucketOf(key.fingerprint, now);
    return tally_.count(decide(bucket, key, cost, now, delay));
  }

  // Whether the short way is open: always, since nobody is banned.
  static constexpr bool isShort() noexcept { return true; }

  // The short way of a check, as a function of the bucket: takes the cost if it is there. If not,
  // nothing has been decided, and check() at the same instant decides. It holds what it needs by
  // value, so that a loop reads that once.
  auto shortWay(double cost, double now) const noexcept {
    return [cost, now, rate = config_.rateLimit,
            capacity = config_.burstLimit](Bucket& bucket) noexcept {
      return consume(bucket.tokens, bucket.lastRefill, cost, now, rate, capacity);
    };
  }

  const Buckets& buckets() const noexcept { return buckets_; }

  double delay(const Fingerprint& print) noexcept {
    const Bucket* bucket = buckets_.find(print);
    return bucket == nullptr
               ? 0.0
               : delaySeconds(bucket->tokens, 1, config_.rateLimit, config_.burstLimit);
  }

  // Puts an offender back: violations become as many, and of a peer that is not known it gets a
  // full bucket, if there is room or one is missed less. `kNoRoom` where nobody is.
  Verdict restore(const Key& key, const Offence& offence, double now) noexcept {
    if (buckets_.find(key.fingerprint) == nullptr) {
      const bool isFull = !hasRoom();
      Bucket* bucket = add(key.fingerprint, now, offence.loss());
      if (bucket == nullptr) return isFull ? Verdict::kNoRoom : Verdict::kNoMemory;
      *bucket = {key.fingerprint, config_.burstLimit, now - offence.idleSeconds};
    }
    return offenders_.restore(key, offence.violations, kNever) ? Verdict::kAllowed
                                                               : Verdict::kNoMemory;
  }

  // Seconds since the peer's last refill; infinity where it has no bucket.
  double idleSeconds(const Fingerprint& print, double now) const noexcept {
    const Bucket* bucket = buckets_.find(print);
    return bucket == nullptr ? kInfinity : elapsed(now, bucket->lastRefill);
  }

  double tokens(const Fingerprint& print) noexcept {
    const Bucket* bucket = buckets_.find(print);
    return bucket == nullptr ? config_.burstLimit : bucket->tokens;
  }

  void removePeer(const Fingerprint& print) noexcept {
    erase(buckets_, print);
    offenders_.forgive(print);
  }

  uint64_t cleanup(double maxIdle, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto idle = [&](Bucket& bucket) {
      if (!(elapsed(now, bucket.lastRefill) > maxIdle)) return false;
      offenders_.forgive(bucket.fingerprint);
      ++removed;
      return true;
    };
    sweep_.run(1, budgetMs,
               [&](unsigned, uint64_t& cursor) { return buckets_.sweep(cursor, idle); });
    return removed;
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    buckets_.clear();
    offenders_.clear();
    sweep_.stop();
  }

  Offenders& offenders() noexcept { return offenders_; }
  Tally& tally() noexcept { return tally_; }
  size_t peers() const noexcept { return buckets_.size(); }
  size_t tracked() const noexcept { return buckets_.size(); }
  size_t memoryBytes() const noexcept { return buckets_.memoryBytes() + offenders_.memoryBytes(); }
  // Bans nobody.
  double banDuration() const noexcept { return 0; }

 private:
  // The peer's bucket, made full if it has none; nullptr where there is no memory.
  Bucket* bucketOf(const Fingerprint& print, double now) noexcept {
    Bucket* bucket = buckets_.find(print);
    if (bucket != nullptr) return bucket;
    bucket = add(print, now, Loss::ofBanned());
    if (bucket != nullptr) *bucket = {print, config_.burstLimit, now};
    return bucket;
  }

  bool hasRoom() const noexcept { return static_cast<double>(peers()) < config_.maxPeers; }

  // A bucket for a newcomer, in the place of a peer that is missed less, if there are maxPeers.
  RELAY_LIMITER_APART Bucket* add(const Fingerprint& print, double now,
                                  const Loss& worth) noexcept {
    if (hasRoom()) return buckets_.insert(print);
    Victim<Bucket> victim(worth);
    prepareSample(buckets_, offenders_, print);
    buckets_.sample(print, kSample, [&](Bucket& bucket) {
      const double seconds = secondsUntilFull(bucket.tokens, bucket.lastRefill, now,
                                              config_.rateLimit, config_.burstLimit);
      if (!victim.mayBe(seconds)) return false;
      const double idle = elapsed(now, bucket.lastRefill);
      return victim.offer(bucket,
                          offenders_.lossOf(bucket.fingerprint, seconds, seconds, idle, now, 0));
    });
    if (victim.record() == nullptr) return nullptr;
    tally_.countEviction(victim.loss());
    offenders_.forgive(victim.record()->fingerprint);
    return buckets_.replace(victim.record(), print);
  }

  Verdict decide(Bucket* bucket, const Key& key, double cost, double now, double& delay) noexcept {
    if (bucket == nullptr) return Verdict::kNoMemory;
    if (consume(bucket->tokens, bucket->lastRefill, cost, now, config_.rateLimit,
                config_.burstLimit)) {
      return Verdict::kAllowed;
    }
    if (!offenders_.canName(key)) return Verdict::kNeedsName;
    const uint64_t violations = offenders_.addViolation(key);
    if (violations == 0) return Verdict::kNoMemory;
    if (static_cast<double>(violations) >= config_.disconnectThreshold) return Verdict::kDisconnect;
    delay = delaySeconds(bucket->tokens, cost, config_.rateLimit, config_.burstLimit);
    return Verdict::kRefused;
  }

  const Config config_;
  Buckets buckets_;
  Offenders offenders_;
  Sweep sweep_;
  Tally tally_;
};

}  // namespace relay_limiter
