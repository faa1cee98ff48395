// DirectConnectionRateLimiter's decisions. Twin of lib/engine/js/direct-limiter.ts: same names,
// same order of statements.
#pragma once

#include "offenders.h"
#include "records.h"
#include "sweep.h"
#include "verdict.h"

namespace relay_limiter {

class DirectLimiter {
 public:
  struct Config {
    double messageRatePerSec;
    double messageBurst;
    double orderbookInterval;
    double orderbookBanThreshold;
    double banDuration;
  };

  explicit DirectLimiter(const Config& config) noexcept : config_(config) {}

  Verdict checkMessage(const Key& key, double cost, double now) noexcept {
    if (inBan(key.fingerprint, now)) return Verdict::kDisconnect;
    return decide(bucketOf(buckets_, key.fingerprint, config_.messageBurst, now), cost, now);
  }

  // The same for a connection whose bucket may be at hand; where it is nullptr it is written.
  Verdict checkMessage(const Key& key, Bucket*& bucket, double cost, double now) noexcept {
    if (inBan(key.fingerprint, now)) return Verdict::kDisconnect;
    if (bucket == nullptr) bucket = bucketOf(buckets_, key.fingerprint, config_.messageBurst, now);
    return decide(bucket, cost, now);
  }

  // Whether the short way is open: not while somebody may be banned.
  bool isShort() const noexcept { return !offenders_.hasBans(); }

  // The short way of a check, as a function of the bucket: takes the cost if it is there. If not,
  // nothing has been decided, and checkMessage() at the same instant decides. It holds what it
  // needs by value, so that a loop reads that once.
  auto shortWay(double cost, double now) const noexcept {
    return [cost, now, rate = config_.messageRatePerSec,
            capacity = config_.messageBurst](Bucket& bucket) noexcept {
      return consume(bucket.tokens, bucket.lastRefill, cost, now, rate, capacity);
    };
  }

  const Buckets& buckets() const noexcept { return buckets_; }

  // `last` is the connection's, nullptr where it has none.
  Verdict checkOrderbook(const Key& key, LastAllowed* last, double now) noexcept {
    if (inBan(key.fingerprint, now)) {
      return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kRefused;
    }
    const double allowedAt = last == nullptr ? kNever : last->at;
    if (elapsed(now, allowedAt) >= config_.orderbookInterval) {
      const bool stored = setAllowedAt(allowedAt_, last, key.fingerprint, now);
      return stored ? Verdict::kAllowed : Verdict::kNoMemory;
    }
    if (!offenders_.canName(key)) return Verdict::kNeedsName;
    const uint64_t violations = offenders_.addViolation(key);
    if (violations == 0) return Verdict::kNoMemory;
    if (static_cast<double>(violations) < config_.orderbookBanThreshold) return Verdict::kRefused;
    return offenders_.beginBan(key, now) ? Verdict::kBanBegins : Verdict::kNoMemory;
  }

  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  bool isBanned(const Fingerprint& print, double now) noexcept {
    const double bannedAt = offenders_.bannedAt(print);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    offenders_.liftBan(print);
    return false;
  }

  double tokens(const Fingerprint& print) noexcept {
    const Bucket* bucket = buckets_.find(print);
    return bucket == nullptr ? config_.messageBurst : bucket->tokens;
  }

  void removePeer(const Fingerprint& print) noexcept {
    erase(buckets_, print);
    erase(allowedAt_, print);
    offenders_.forgive(print);
  }

  uint64_t cleanup(double maxAge, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto silent = [&](const Bucket& bucket) {
      if (!(elapsed(now, bucket.lastRefill) > maxAge)) return false;
      ++removed;
      return true;
    };
    const auto old = [&](const LastAllowed& last) {
      if (!(elapsed(now, last.at) > maxAge)) return false;
      if (offenders_.bannedAt(last.fingerprint) != kNever) return false;
      offenders_.forgive(last.fingerprint);
      return true;
    };
    const auto over = [&](const Ban& ban) { return elapsed(now, ban.began) > config_.banDuration; };
    sweep_.run(3, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      if (pass == 0) return buckets_.sweep(cursor, silent);
      return pass == 1 ? allowedAt_.sweep(cursor, old) : offenders_.sweepBans(cursor, over);
    });
    return removed;
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    buckets_.clear();
    allowedAt_.clear();
    offenders_.clear();
    sweep_.stop();
  }

  Offenders& offenders() noexcept { return offenders_; }
  size_t tracked() const noexcept { return buckets_.size(); }
  size_t memoryBytes() const noexcept {
    return buckets_.memoryBytes() + allowedAt_.memoryBytes() + offenders_.memoryBytes();
  }
  double banDuration() const noexcept { return config_.banDuration; }

 private:
  Verdict decide(Bucket* bucket, double cost, double now) noexcept {
    if (bucket == nullptr) return Verdict::kNoMemory;
    return consume(bucket->tokens, bucket->lastRefill, cost, now, config_.messageRatePerSec,
                   config_.messageBurst)
               ? Verdict::kAllowed
               : Verdict::kRefused;
  }

  // Whether a ban is in force, as a check sees it: one that is over goes, its violations with it.
  bool inBan(const Fingerprint& print, double now) noexcept {
    const double bannedAt = offenders_.bannedAt(print);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    offenders_.forgive(print);
    return false;
  }

  const Config config_;
  Buckets buckets_;
  // When each connection's orderbook request was last allowed.
  AllowedTimes allowedAt_;
  Offenders offenders_;
  Sweep sweep_;
};

}  // namespace relay_limiter
