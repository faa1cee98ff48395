// ConnectionTables stores the records of DirectLimiter: for each connection a bucket, the time of
// its last allowed orderbook request, or both. The two tables together never hold more than
// maxPeers connections: a new one evicts another one or is refused. Its TypeScript twin is in
// lib/engine/js/connection-tables.ts.
#pragma once

#include <algorithm>

#include "../memory/compiler.h"
#include "counters.h"
#include "eviction.h"
#include "offenders.h"
#include "records.h"
#include "verdict.h"

namespace relay_limiter {

struct DirectConfig {
  double messageRatePerSec;
  double messageBurst;
  // In seconds.
  double orderbookInterval;
  double orderbookBanThreshold;
  // In seconds.
  double banDuration;
  double maxPeers;
};

template <class Storage>
class ConnectionTables {
 public:
  using Offenders = BasicOffenders<Storage>;
  using StoredCounters = typename Storage::template Stored<Counters>;
  using Buckets = typename Storage::template Table<Bucket>;
  using AllowedTimes = typename Storage::template Table<LastAllowed>;

  // Keeps references to its arguments, except the storage.
  ConnectionTables(const DirectConfig& config, Offenders& offenders, StoredCounters& counters,
                   const Storage& storage) noexcept
      : config_(config),
        parameters_{config.messageRatePerSec, config.messageBurst},
        offenders_(offenders),
        counters_(counters),
        buckets_(storage.template table<Bucket>()),
        allowedAt_(storage.template table<LastAllowed>()),
        inBothTables_(storage.template value<size_t>()) {}

  // The number of connections.
  size_t size() const noexcept { return buckets_.size() + allowedAt_.size() - *inBothTables_; }
  size_t memoryBytes() const noexcept { return buckets_.memoryBytes() + allowedAt_.memoryBytes(); }
  const BucketParameters& parameters() const noexcept { return parameters_; }

  const Buckets& buckets() const noexcept { return buckets_; }
  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  // Adds a record for a connection that has none in this table: a full bucket, or no time. If there
  // are maxPeers connections, one with a lower cost is evicted after a search of up to `most`
  // records. If `record` stays nullptr, the verdict says why.
  Verdict add(const Fingerprint& fingerprint, double now, Bucket*& record,
              const EvictionCost& newcomerCost = EvictionCost::ofBanned(),
              unsigned most = kMostLookedAt) noexcept {
    return add(buckets_, allowedAt_, fingerprint, now, record, newcomerCost, most);
  }
  Verdict add(const Fingerprint& fingerprint, double now, LastAllowed*& record,
              const EvictionCost& newcomerCost = EvictionCost::ofBanned(),
              unsigned most = kMostLookedAt) noexcept {
    return add(allowedAt_, buckets_, fingerprint, now, record, newcomerCost, most);
  }

  // Removes both records of a connection, but not its offences.
  void remove(const Fingerprint& fingerprint) noexcept {
    const bool hadBucket = erase(buckets_, fingerprint);
    const bool hadTime = erase(allowedAt_, fingerprint);
    if (hadBucket && hadTime) --*inBothTables_;
  }

  // Visits some records, as Table::sweep does, and erases those for which expire(record) returns
  // true.
  template <class Expire>
  bool sweepBuckets(uint64_t& cursor, Expire&& expire) noexcept {
    return sweep(buckets_, allowedAt_, cursor, expire);
  }
  template <class Expire>
  bool sweepTimes(uint64_t& cursor, Expire&& expire) noexcept {
    return sweep(allowedAt_, buckets_, cursor, expire);
  }

  void clear() noexcept {
    buckets_.clear();
    allowedAt_.clear();
    *inBothTables_ = 0;
  }

  // Makes the tables consistent again after an operation on them was interrupted.
  void repair() noexcept {
    buckets_.repair();
    allowedAt_.repair();
    *inBothTables_ = 0;
    buckets_.forEach([&](const Bucket& bucket) {
      if (allowedAt_.find(bucket.fingerprint) != nullptr) ++*inBothTables_;
    });
  }

  // Seconds until a record equals that of a new connection.
  double secondsUntilFresh(const Bucket& bucket, double now) const noexcept {
    return parameters_.secondsUntilFull(bucket, now);
  }
  double secondsUntilFresh(const LastAllowed& last, double now) const noexcept {
    return secondsLeft(config_.orderbookInterval, idleSeconds(last, now));
  }

  static double idleSeconds(const Bucket& bucket, double now) noexcept {
    return elapsed(now, bucket.lastRefill);
  }
  static double idleSeconds(const LastAllowed& last, double now) noexcept {
    return elapsed(now, last.at);
  }

 private:
  template <class Record>
  using Table = typename Storage::template Table<Record>;

  template <class Own, class Other>
  RELAY_LIMITER_NOINLINE Verdict add(Table<Own>& own, Table<Other>& other,
                                     const Fingerprint& fingerprint, double now, Own*& record,
                                     const EvictionCost& newcomerCost, unsigned most) noexcept {
    const bool isKnown = other.find(fingerprint) != nullptr;
    const auto admission = isKnown ? Admission<Own>::withoutEviction()
                                   : admit(own, other, fingerprint, now, newcomerCost, most);
    if (!admission.isAllowed) return Verdict::kNoRoom;
    record = admission.insert(own, fingerprint);
    if (record == nullptr) return Verdict::kNoMemory;
    setFresh(*record, fingerprint, now);
    evict(admission, other);
    if (isKnown) ++*inBothTables_;
    return Verdict::kAllowed;
  }

  void setFresh(Bucket& bucket, const Fingerprint& fingerprint, double now) const noexcept {
    bucket = parameters_.fullBucket(fingerprint, now);
  }
  void setFresh(LastAllowed& last, const Fingerprint& fingerprint, double) const noexcept {
    last = {fingerprint, kNever};
  }

  // Decides whether a new connection may be added. If there are maxPeers connections, one with a
  // lower cost is chosen to be evicted, if possible one with a record in `own`.
  template <class Own, class Other>
  Admission<Own> admit(Table<Own>& own, Table<Other>& other, const Fingerprint& fingerprint,
                       double now, const EvictionCost& newcomerCost, unsigned most) noexcept {
    if (static_cast<double>(size()) < config_.maxPeers) return Admission<Own>::withoutEviction();
    if (offenders_.areAllBanned(size(), now, config_.banDuration)) return Admission<Own>::denied();
    EvictionCandidate<Own> best(newcomerCost);
    offerSample(own, offenders_, fingerprint, most, best,
                [&](Own& record) { return offer(best, record, other, now); });
    // Some connections have a record only in the other table.
    EvictionCandidate<Other> bestOther(best.cost());
    if (!best.cost().isZero() && other.size() > *inBothTables_) {
      const unsigned others = best.record() == nullptr ? most : kSample;
      offerSample(other, offenders_, fingerprint, others, bestOther,
                  [&](Other& record) { return offer(bestOther, record, own, now); });
    }
    if (bestOther.record() != nullptr) {
      const Fingerprint& evicted = bestOther.record()->fingerprint;
      return Admission<Own>::byEviction(own.find(evicted), evicted, bestOther.cost());
    }
    if (best.record() == nullptr) return Admission<Own>::denied();
    return Admission<Own>::byEviction(best.record(), best.record()->fingerprint, best.cost());
  }

  // Removes the evicted connection of an admission. Its record in the newcomer's table, if it had
  // one, was replaced already.
  template <class Own, class Other>
  void evict(const Admission<Own>& admission, Table<Other>& other) noexcept {
    if (!admission.needsEviction) return;
    counters_->countEviction(admission.cost);
    if (erase(other, admission.evicted) && admission.record != nullptr) --*inBothTables_;
    offenders_.forgive(admission.evicted);
  }

  // Offers a record for eviction; its connection may have one in the other table too.
  template <class Record, class Other>
  bool offer(EvictionCandidate<Record>& best, Record& record, Table<Other>& other,
             double now) noexcept {
    double seconds = secondsUntilFresh(record, now);
    if (!best.canImprove(seconds)) return false;
    double idle = idleSeconds(record, now);
    if (const Other* second = other.find(record.fingerprint)) {
      seconds = std::max(seconds, secondsUntilFresh(*second, now));
      idle = std::min(idle, idleSeconds(*second, now));
    }
    const EvictionCost evictionCost = offenders_.evictionCostOf(
        record.fingerprint, seconds, seconds, idle, now, config_.banDuration);
    return best.offer(record, evictionCost);
  }

  template <class Own, class Other, class Expire>
  bool sweep(Table<Own>& own, Table<Other>& other, uint64_t& cursor, Expire&& expire) noexcept {
    return own.sweep(cursor, [&](Own& record) {
      if (!expire(record)) return false;
      if (other.find(record.fingerprint) != nullptr) --*inBothTables_;
      return true;
    });
  }

  const DirectConfig& config_;
  const BucketParameters parameters_;
  Offenders& offenders_;
  StoredCounters& counters_;
  Buckets buckets_;
  // When each connection's last orderbook request was allowed.
  AllowedTimes allowedAt_;
  // The number of connections with a bucket and a time.
  typename Storage::template Stored<size_t> inBothTables_;
};

}  // namespace relay_limiter
