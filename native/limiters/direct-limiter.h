// DirectLimiter decides the checks of the public class DirectConnectionRateLimiter. Counterpart of
// lib/engine/js/direct-limiter.ts.
#pragma once

#include <algorithm>

#include "../memory/compiler.h"
#include "connection-tables.h"
#include "counters.h"
#include "eviction.h"
#include "offenders.h"
#include "pending.h"
#include "records.h"
#include "sweep.h"
#include "verdict.h"

namespace relay_limiter {

template <class Storage>
class BasicDirectLimiter {
  template <class Record>
  using Pending = typename Storage::template Pending<Record>;
  template <class Record>
  using Table = typename Storage::template Table<Record>;

 public:
  using Config = DirectConfig;
  using Offenders = BasicOffenders<Storage>;
  using Buckets = Table<Bucket>;
  using AllowedTimes = Table<LastAllowed>;

  static constexpr unsigned kSecrets = Pending<Bucket>::kMostSecrets;
  // The passes of a cleanup: buckets, times and bans, and the pending buckets and times of each
  // secret.
  static constexpr unsigned kPasses = 3 + 2 * kSecrets;

  explicit BasicDirectLimiter(const Config& config, const Storage& storage = Storage()) noexcept
      : config_(config),
        counters_(storage.template value<Counters>()),
        offenders_(config.maxPeers, storage),
        tables_(config_, offenders_, counters_, storage) {}

  // Checks a message. `bucket` is the connection's if it is known; if it is nullptr, it is set.
  Verdict check(const Key& key, Bucket*& bucket, double cost, double now) noexcept {
    return counters_->count(decide(key, bucket, cost, now));
  }

  // False as long as there is a ban, in force or over.
  bool canUseFastPath() const noexcept { return offenders_.bans().isEmpty(); }

  // Returns a function of a bucket that takes the cost if the bucket has it. If it returns false,
  // nothing is decided or counted: call refuse().
  auto fastPath(double cost, double now) const noexcept {
    return tables_.parameters().consumer(cost, now);
  }

  // Refuses a message that the fast path does not allow. That is no violation, so the offender is
  // not needed.
  template <class FindOffender>
  Verdict refuse(FindOffender&&) noexcept {
    return counters_->count(Verdict::kRefused);
  }

  const Buckets& buckets() const noexcept { return tables_.buckets(); }

  // `last` is the connection's record, nullptr if it has none.
  Verdict checkOrderbook(const Key& key, LastAllowed* last, double now) noexcept {
    return counters_->count(decideOrderbook(key, last, now));
  }

  const AllowedTimes& allowedAt() const noexcept { return tables_.allowedAt(); }

  // Removes a ban that is over, but keeps the violations.
  bool isBanned(const Fingerprint& fingerprint, double now) noexcept {
    const double began = offenders_.bans().beganAt(fingerprint);
    if (began == kNever) return false;
    if (elapsed(now, began) < config_.banDuration) return true;
    offenders_.liftBan(fingerprint);
    return false;
  }

  // Ends a ban in force, but keeps the violations. False if there is none; then nothing has
  // changed.
  bool unban(const Fingerprint& fingerprint, double now) noexcept {
    if (banSecondsLeft(fingerprint, now) == 0) return false;
    offenders_.liftBan(fingerprint);
    return true;
  }

  double banSecondsLeft(const Fingerprint& fingerprint, double now) const noexcept {
    return offenders_.bans().secondsLeft(fingerprint, now, config_.banDuration);
  }

  // Restores an offender: raises its violations to those of the snapshot, makes its ban end no
  // earlier, and adds a time if it has none. kNoRoom if there are maxPeers connections and none of
  // up to `most` records may be evicted for a new one.
  Verdict restore(const Key& key, const SavedOffender& saved, double now, unsigned most) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    // Removes a ban that is over, because restoring would extend it.
    isBannedForCheck(fingerprint, now);
    if (allowedAt().find(fingerprint) == nullptr) {
      LastAllowed* last = nullptr;
      const Verdict added = addTime(key, kNever, now, last, saved.evictionCost(), most);
      if (last == nullptr) return added;
      last->at = std::max(last->at, now - saved.idleSeconds);
    }
    if (saved.bucket.isPresent()) {
      const Verdict restored = restoreBucket(key, saved.bucket, now);
      if (restored != Verdict::kAllowed) return restored;
    }
    const double began = saved.banBegan(now, config_.banDuration);
    return offenders_.restore(key, saved.violations, began) ? Verdict::kAllowed
                                                            : Verdict::kNoMemory;
  }

  // Fetches the memory that restore() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    buckets().prepare(fingerprint);
    allowedAt().prepare(fingerprint);
    offenders_.prepare(fingerprint);
  }

  // Sets a random key. Call this before the first restoreDigest().
  void setDigestKey(const Secret& key) noexcept {
    pendingBuckets_.setKey(key);
    pendingTimes_.setKey(key);
  }

  // Fetches the memory that restoreDigest() will read.
  RELAY_LIMITER_INLINE void prepareDigest(const Secret& secret,
                                          const Fingerprint& digest) const noexcept {
    pendingBuckets_.prepare(secret, digest);
    pendingTimes_.prepare(secret, digest);
  }

  // Stores what a snapshot has under a digest until the connection is checked again. kNoRoom if the
  // snapshot has neither a bucket nor a time, or if maxPeers of them or too many secrets are
  // pending.
  Verdict restoreDigest(const Secret& secret, bool isOwn, const SavedDigest& saved,
                        double now) noexcept {
    const auto isStricter = [this](const Bucket& a, const Bucket& b) {
      return tables_.parameters().isEmptier(a, b);
    };
    Verdict verdict = Verdict::kNoRoom;
    if (saved.bucket.isPresent()) {
      const Bucket bucket = saved.bucket.toBucket(saved.digest, now);
      verdict = pendingBuckets_.put(secret, isOwn, bucket, config_.maxPeers, isStricter);
    }
    if (saved.hasTime() && verdict != Verdict::kNoMemory) {
      const LastAllowed last = saved.toLastAllowed(now);
      const Verdict put = pendingTimes_.put(secret, isOwn, last, config_.maxPeers, isLater);
      if (put != Verdict::kNoRoom) verdict = put;
    }
    return verdict;
  }

  // The connection's bucket as a snapshot saves it.
  SavedBucket savedBucket(const Fingerprint& fingerprint, double now) const noexcept {
    return tables_.parameters().saved(buckets().find(fingerprint), now);
  }

  // Calls use(offender, began) if a snapshot lists the offender by key.
  template <class Use>
  void visitOffender(const Fingerprint& fingerprint, double now, Use&& use) noexcept {
    offenders_.visitForSnapshot(fingerprint, now, banDuration(), use);
  }

  static constexpr unsigned kSnapshotPasses = 2 * kSecrets + 2;

  // Visits some connections for a snapshot, except the offenders that it contains already, as
  // snapshotVisitor() describes. Works as Table::sweep does, in kSnapshotPasses passes. The pending
  // records come first: a connection that is checked meanwhile is visited again in its table.
  template <class UseOffender, class UseDigest>
  bool sweepSnapshotPass(unsigned pass, uint64_t& cursor, double now, uint64_t order,
                         UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    const auto isSaved = [&](const auto& record) {
      return tables_.secondsUntilFresh(record, now) > kSnapshotSeconds;
    };
    const auto visitPending = pendingSnapshotVisitor(now, isSaved, useDigest);
    if (pass < kSecrets) return pendingBuckets_.sweep(pass, cursor, visitPending);
    if (pass < 2 * kSecrets) return pendingTimes_.sweep(pass - kSecrets, cursor, visitPending);
    const auto visit =
        snapshotVisitor(offenders_, now, banDuration(), order, isSaved, useOffender, useDigest);
    return pass == 2 * kSecrets ? tables_.sweepBuckets(cursor, visit)
                                : tables_.sweepTimes(cursor, visit);
  }

  // Seconds since the connection's last allowed orderbook request; infinity if there is no record
  // of one.
  double idleSeconds(const Fingerprint& fingerprint, double now) const noexcept {
    const LastAllowed* last = allowedAt().find(fingerprint);
    return last == nullptr ? kInfinity : elapsed(now, last->at);
  }

  double tokens(const Key& key) noexcept {
    const Bucket* bucket = buckets().find(key.fingerprint);
    if (bucket == nullptr) bucket = pendingBuckets_.find(key);
    return bucket == nullptr ? config_.messageBurst : bucket->tokens;
  }

  void removePeer(const Key& key) noexcept {
    tables_.remove(key.fingerprint);
    offenders_.forgive(key.fingerprint);
    pendingBuckets_.remove(key);
    pendingTimes_.remove(key);
  }

  // Removes old buckets, old times and bans that are over. Returns the number of removed buckets;
  // pending buckets do not count.
  uint64_t cleanup(double maxAge, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto expireBucket = [&](const Bucket& bucket) {
      if (!(elapsed(now, bucket.lastRefill) > maxAge)) return false;
      ++removed;
      return true;
    };
    const auto expireTime = [&](const LastAllowed& last) {
      if (!(elapsed(now, last.at) > maxAge)) return false;
      if (offenders_.bans().beganAt(last.fingerprint) != kNever) return false;
      offenders_.forgive(last.fingerprint);
      return true;
    };
    const auto expireBan = [&](const Ban& ban) {
      return elapsed(now, ban.began) > config_.banDuration;
    };
    const auto expirePending = [&](const Secret&, const auto& record) {
      return tables_.idleSeconds(record, now) > maxAge ||
             tables_.secondsUntilFresh(record, now) == 0;
    };
    const bool hasPending = !pendingBuckets_.isEmpty() || !pendingTimes_.isEmpty();
    sweep_.run(hasPending ? kPasses : 3, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      if (pass == 0) return tables_.sweepBuckets(cursor, expireBucket);
      if (pass == 1) return tables_.sweepTimes(cursor, expireTime);
      if (pass == 2) return offenders_.sweepBans(cursor, expireBan);
      const unsigned index = (pass - 3) / 2;
      return pass % 2 == 1 ? pendingBuckets_.sweep(index, cursor, expirePending)
                           : pendingTimes_.sweep(index, cursor, expirePending);
    });
    return removed;
  }

  // Whether the limiter stores nothing of any connection.
  bool isEmpty() const noexcept {
    return peers() == 0 && offenders_.size() == 0 && pendingBuckets_.isEmpty() &&
           pendingTimes_.isEmpty();
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    tables_.clear();
    pendingBuckets_.clear();
    pendingTimes_.clear();
    offenders_.clear();
    sweep_.stop();
  }

  // Restores a connection by its fingerprint, of which a snapshot has no more than a bucket and a
  // time. Keeps the emptier bucket and the later time. kNoRoom if no connection may be evicted for
  // a new one.
  Verdict restorePeer(const SavedDigest& saved, double now) noexcept {
    Verdict verdict = Verdict::kNoRoom;
    if (saved.bucket.isPresent()) {
      const Bucket restored = saved.bucket.toBucket(saved.digest, now);
      verdict = restoreRecord(buckets().find(saved.digest), restored, now, [&](Bucket& bucket) {
        if (tables_.parameters().isEmptier(restored, bucket)) {
          bucket.set(restored);
        }
      });
    }
    if (saved.hasTime() && verdict != Verdict::kNoMemory) {
      const LastAllowed restored = saved.toLastAllowed(now);
      const Verdict put =
          restoreRecord(allowedAt().find(saved.digest), restored, now,
                        [&](LastAllowed& last) { last.at = std::max(last.at, restored.at); });
      if (put != Verdict::kNoRoom) verdict = put;
    }
    return verdict;
  }

  // Makes the tables consistent again after an operation on them was interrupted.
  void repair() noexcept {
    tables_.repair();
    offenders_.repair([&](const Fingerprint& peer) {
      return buckets().find(peer) != nullptr || allowedAt().find(peer) != nullptr;
    });
  }

  Offenders& offenders() noexcept { return offenders_; }
  Counters& counters() noexcept { return *counters_; }
  size_t peers() const noexcept { return tables_.size(); }
  size_t tracked() const noexcept { return buckets().size(); }
  size_t memoryBytes() const noexcept {
    return tables_.memoryBytes() + pendingBuckets_.memoryBytes() + pendingTimes_.memoryBytes() +
           offenders_.memoryBytes();
  }
  double banDuration() const noexcept { return config_.banDuration; }

 private:
  // If `bucket` is nullptr, it is set.
  Verdict decide(const Key& key, Bucket*& bucket, double cost, double now) noexcept {
    const Fingerprint& fingerprint = key.fingerprint;
    if (isBannedForCheck(fingerprint, now)) return Verdict::kDisconnect;
    if (bucket == nullptr) bucket = buckets().find(fingerprint);
    if (bucket == nullptr) {
      if (!canFindPending(key)) return Verdict::kNeedsText;
      const Verdict added = addBucket(key, now, bucket);
      if (bucket == nullptr) return added;
    }
    return tables_.parameters().consume(*bucket, cost, now) ? Verdict::kAllowed : Verdict::kRefused;
  }

  Verdict decideOrderbook(const Key& key, LastAllowed* last, double now) noexcept {
    if (isBannedForCheck(key.fingerprint, now)) {
      return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kDisconnect;
    }
    if (last == nullptr) {
      if (!canFindPending(key)) return Verdict::kNeedsText;
      const Verdict added = addTime(key, kNever, now, last);
      if (last == nullptr) return added;
    }
    if (elapsed(now, last->at) >= config_.orderbookInterval) {
      *last = {key.fingerprint, now};
      return Verdict::kAllowed;
    }
    if (!offenders_.canAdd(key)) return Verdict::kNeedsText;
    const uint64_t violations = offenders_.addViolation(key);
    if (violations == 0) return Verdict::kNoMemory;
    if (static_cast<double>(violations) < config_.orderbookBanThreshold) return Verdict::kRefused;
    return offenders_.beginBan(key, now) ? Verdict::kBanBegins : Verdict::kNoMemory;
  }

  // Adds a bucket for a connection without one: its pending bucket or a full one. If `bucket` stays
  // nullptr, the verdict says why.
  Verdict addBucket(const Key& key, double now, Bucket*& bucket) noexcept {
    const Verdict added = tables_.add(key.fingerprint, now, bucket);
    if (bucket == nullptr) return added;
    pendingBuckets_.take(key, *bucket);
    restorePending(pendingTimes_, allowedAt(), key, now);
    return Verdict::kAllowed;
  }

  // Adds a time for a connection without one: its pending time or `at`. If `last` stays nullptr,
  // the verdict says why.
  Verdict addTime(const Key& key, double at, double now, LastAllowed*& last,
                  const EvictionCost& newcomerCost = EvictionCost::ofBanned(),
                  unsigned most = kMostLookedAt) noexcept {
    const Verdict added = tables_.add(key.fingerprint, now, last, newcomerCost, most);
    if (last == nullptr) return added;
    *last = {key.fingerprint, at};
    pendingTimes_.take(key, *last);
    restorePending(pendingBuckets_, buckets(), key, now);
    return Verdict::kAllowed;
  }

  // The first record of a connection also restores its pending record in the other table. If there
  // is no memory for it, the record stays pending.
  template <class Record>
  void restorePending(Pending<Record>& pending, const Table<Record>& table, const Key& key,
                      double now) noexcept {
    if (pending.isEmpty() || table.find(key.fingerprint) != nullptr) return;
    if (pending.find(key) == nullptr) return;
    Record* record = nullptr;
    tables_.add(key.fingerprint, now, record);
    if (record != nullptr) pending.take(key, *record);
  }

  // Merges a restored record with that of a connection, or adds it.
  template <class Record, class Merge>
  Verdict restoreRecord(Record* record, const Record& restored, double now,
                        Merge&& merge) noexcept {
    if (record != nullptr) {
      merge(*record);
      return Verdict::kAllowed;
    }
    const auto cost = EvictionCost::ofClean(tables_.secondsUntilFresh(restored, now));
    const Verdict added = tables_.add(restored.fingerprint, now, record, cost, kSample);
    if (record == nullptr) return added;
    *record = restored;
    return Verdict::kAllowed;
  }

  // Whether the key has its text, or pending records can be found without the text.
  bool canFindPending(const Key& key) const noexcept {
    return key.text != nullptr || !(pendingBuckets_.needsText() || pendingTimes_.needsText());
  }

  // Keeps the emptier of the connection's bucket and the saved one.
  Verdict restoreBucket(const Key& key, const SavedBucket& saved, double now) noexcept {
    Bucket* bucket = buckets().find(key.fingerprint);
    if (bucket == nullptr) {
      const Verdict added = addBucket(key, now, bucket);
      if (bucket == nullptr) return added;
    }
    const Bucket restored = saved.toBucket(key.fingerprint, now);
    if (tables_.parameters().isEmptier(restored, *bucket)) bucket->set(restored);
    return Verdict::kAllowed;
  }

  // Whether a check is refused by a ban. A ban that is over is removed with its violations.
  bool isBannedForCheck(const Fingerprint& fingerprint, double now) noexcept {
    const double began = offenders_.bans().beganAt(fingerprint);
    if (began == kNever) return false;
    if (elapsed(now, began) < config_.banDuration) return true;
    offenders_.forgive(fingerprint);
    return false;
  }

  const Config config_;
  typename Storage::template Stored<Counters> counters_;
  Offenders offenders_;
  ConnectionTables<Storage> tables_;
  Pending<Bucket> pendingBuckets_;
  Pending<LastAllowed> pendingTimes_;
  Sweep sweep_;
};

using DirectLimiter = BasicDirectLimiter<PrivateStorage>;

}  // namespace relay_limiter
