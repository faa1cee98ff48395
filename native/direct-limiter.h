// DirectConnectionRateLimiter's decisions. Twin of lib/engine/js/direct-limiter.ts: same names,
// same order of statements.
#pragma once

#include <algorithm>

#include "apart.h"
#include "offenders.h"
#include "records.h"
#include "sweep.h"
#include "tally.h"
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
    return tally_.count(decide(key.fingerprint, bucket, cost, now));
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
    return tally_.count(decideOrderbook(key, last, now));
  }

  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  bool isBanned(const Fingerprint& print, double now) noexcept {
    const double bannedAt = offenders_.bannedAt(print);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    offenders_.liftBan(print);
    return false;
  }

  // Puts an offender back: its violations become as many, its ban ends as late, and it gets a time
  // unless it has one; if there is room, or one is missed less. `kNoRoom` where nobody is.
  Verdict restore(const Key& key, const Offence& offence, double now) noexcept {
    const Fingerprint& print = key.fingerprint;
    // Or a ban that is over would be lengthened.
    inBan(print, now);
    if (allowedAt_.find(print) == nullptr) {
      LastAllowed* last = nullptr;
      const Verdict added = add(allowedAt_, buckets_, print, now, last, offence.loss());
      if (last == nullptr) return added;
      *last = {print, now - offence.idleSeconds};
    }
    const double began = offence.banBegan(now, config_.banDuration);
    return offenders_.restore(key, offence.violations, began) ? Verdict::kAllowed
                                                              : Verdict::kNoMemory;
  }

  // Seconds since the connection's last allowed orderbook request; infinity where there was none.
  double idleSeconds(const Fingerprint& print, double now) const noexcept {
    const LastAllowed* last = allowedAt_.find(print);
    return last == nullptr ? kInfinity : elapsed(now, last->at);
  }

  double tokens(const Fingerprint& print) noexcept {
    const Bucket* bucket = buckets_.find(print);
    return bucket == nullptr ? config_.messageBurst : bucket->tokens;
  }

  void removePeer(const Fingerprint& print) noexcept {
    const bool hadBucket = erase(buckets_, print);
    const bool hadTime = erase(allowedAt_, print);
    if (hadBucket && hadTime) --both_;
    offenders_.forgive(print);
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
      if (offenders_.bannedAt(last.fingerprint) != kNever) return false;
      if (buckets_.find(last.fingerprint) != nullptr) --both_;
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
    both_ = 0;
  }

  Offenders& offenders() noexcept { return offenders_; }
  Tally& tally() noexcept { return tally_; }
  size_t peers() const noexcept { return buckets_.size() + allowedAt_.size() - both_; }
  size_t tracked() const noexcept { return buckets_.size(); }
  size_t memoryBytes() const noexcept {
    return buckets_.memoryBytes() + allowedAt_.memoryBytes() + offenders_.memoryBytes();
  }
  double banDuration() const noexcept { return config_.banDuration; }

 private:
  // `bucket` is written where it is nullptr.
  Verdict decide(const Fingerprint& print, Bucket*& bucket, double cost, double now) noexcept {
    if (inBan(print, now)) return Verdict::kDisconnect;
    if (bucket == nullptr) bucket = buckets_.find(print);
    if (bucket == nullptr) {
      const Verdict added = add(buckets_, allowedAt_, print, now, bucket);
      if (bucket == nullptr) return added;
      *bucket = {print, config_.messageBurst, now};
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
    const double allowedAt = last == nullptr ? kNever : last->at;
    if (elapsed(now, allowedAt) >= config_.orderbookInterval) {
      if (last == nullptr) {
        const Verdict added = add(allowedAt_, buckets_, key.fingerprint, now, last);
        if (last == nullptr) return added;
      }
      *last = {key.fingerprint, now};
      return Verdict::kAllowed;
    }
    if (!offenders_.canName(key)) return Verdict::kNeedsName;
    const uint64_t violations = offenders_.addViolation(key);
    if (violations == 0) return Verdict::kNoMemory;
    if (static_cast<double>(violations) < config_.orderbookBanThreshold) return Verdict::kRefused;
    return offenders_.beginBan(key, now) ? Verdict::kBanBegins : Verdict::kNoMemory;
  }

  // A record in `own`, which has none of this connection; `other` may know it. Where `record` stays
  // nullptr the answer says why.
  template <class Own, class Other>
  RELAY_LIMITER_APART Verdict add(Table<Own>& own, Table<Other>& other, const Fingerprint& print,
                                  double now, Own*& record,
                                  const Loss& worth = Loss::ofBanned()) noexcept {
    const bool isKnown = other.find(print) != nullptr;
    const auto room = isKnown ? Room<Own>{true, nullptr} : makeRoom(own, other, print, now, worth);
    if (!room.found) return Verdict::kNoRoom;
    record = room.take(own, print);
    if (isKnown && record != nullptr) ++both_;
    return Verdict::kNoMemory;
  }

  // Room for a newcomer, in `own` if that can be: where there are maxPeers, one that is missed less
  // goes.
  template <class Own, class Other>
  Room<Own> makeRoom(Table<Own>& own, Table<Other>& other, const Fingerprint& print, double now,
                     const Loss& worth) noexcept {
    if (static_cast<double>(peers()) < config_.maxPeers) return {true, nullptr};
    Victim<Own> victim(worth);
    prepareSample(own, offenders_, print);
    own.sample(print, kSample, [&](Own& record) { return offer(victim, record, other, now); });
    // Of some connections only the other table knows.
    Victim<Other> stranger(victim.loss());
    if (!victim.loss().isNothing() && other.size() > both_) {
      other.sample(print, kSample,
                   [&](Other& record) { return offer(stranger, record, own, now); });
    }
    if (stranger.record() != nullptr) {
      tally_.countEviction(stranger.loss());
      removePeer(Fingerprint(stranger.record()->fingerprint));
      return {true, nullptr};
    }
    if (victim.record() == nullptr) return {false, nullptr};
    tally_.countEviction(victim.loss());
    if (erase(other, victim.record()->fingerprint)) --both_;
    offenders_.forgive(victim.record()->fingerprint);
    return {true, victim.record()};
  }

  // A record of one table, whose connection the other table may know as well.
  template <class Record, class Other>
  bool offer(Victim<Record>& victim, Record& record, Table<Other>& other, double now) noexcept {
    double seconds = secondsUntilFresh(record, now);
    if (!victim.mayBe(seconds)) return false;
    double idle = idleOf(record, now);
    if (const Other* second = other.find(record.fingerprint)) {
      seconds = std::max(seconds, secondsUntilFresh(*second, now));
      idle = std::min(idle, idleOf(*second, now));
    }
    const Loss loss =
        offenders_.lossOf(record.fingerprint, seconds, seconds, idle, now, config_.banDuration);
    return victim.offer(record, loss);
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
  // Connections with a bucket and a time.
  size_t both_ = 0;
  Sweep sweep_;
  Tally tally_;
};

}  // namespace relay_limiter
