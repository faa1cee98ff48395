// What a peer costs: the records of the tables, 32 bytes each, two a cache line. Violations, bans
// and names are the offenders' (offenders.h).
#pragma once

#include <algorithm>
#include <limits>

#include "../table/table.h"
#include "arithmetic.h"
#include "eviction-cost.h"

namespace relay_limiter {

struct alignas(32) Bucket {
  Fingerprint fingerprint;
  double tokens;
  double lastRefill;
};

struct alignas(32) Lease {
  Fingerprint fingerprint;
  // That may be spent, and when they are no longer there.
  double tokens;
  double until;
};

struct alignas(32) LastAllowed {
  Fingerprint fingerprint;
  // kNever after a ban that is over.
  double at;
};

using Buckets = Table<Bucket>;
using Leases = Table<Lease>;
using AllowedTimes = Table<LastAllowed>;

// A bucket or an interval that is as a fresh peer's again within so many seconds is not in a
// snapshot.
constexpr double kSnapshotSeconds = 10;

// What a snapshot says of a bucket.
struct SavedBucket {
  // As of the last refill; NaN: the snapshot says nothing of a bucket.
  double tokens;
  // Since the last refill.
  double idleSeconds;

  static constexpr SavedBucket none() noexcept {
    return {std::numeric_limits<double>::quiet_NaN(), 0};
  }

  bool isThere() const noexcept { return tokens == tokens; }

  // As a record.
  Bucket restored(const Fingerprint& fingerprint, double now) const noexcept {
    return {fingerprint, tokens, now - idleSeconds};
  }
};

// What a snapshot says of a peer under a digest of its key.
struct SavedDigest {
  Fingerprint digest;
  // Since its last allowed request; NaN: the snapshot says nothing of one.
  double idleSeconds;
  SavedBucket bucket;

  bool hasTime() const noexcept { return idleSeconds == idleSeconds; }

  LastAllowed restoredTime(double now) const noexcept { return {digest, now - idleSeconds}; }

  static SavedDigest of(const Bucket& bucket, double now) noexcept {
    return {bucket.fingerprint,
            std::numeric_limits<double>::quiet_NaN(),
            {bucket.tokens, elapsed(now, bucket.lastRefill)}};
  }
  static SavedDigest of(const LastAllowed& last, double now) noexcept {
    return {last.fingerprint, elapsed(now, last.at), SavedBucket::none()};
  }
};

// Of two records of one peer, whether the first allows less.
inline bool isEmptier(const Bucket& a, const Bucket& b, double rate, double capacity) noexcept {
  const double later = std::max(a.lastRefill, b.lastRefill);
  return refill(a.tokens, a.lastRefill, later, rate, capacity) <
         refill(b.tokens, b.lastRefill, later, rate, capacity);
}

inline bool isLater(const LastAllowed& a, const LastAllowed& b) noexcept { return a.at > b.at; }

// What a snapshot says of an offender.
struct Offence {
  uint64_t violations;
  // What its ban has left; 0: none is in force.
  double banSecondsLeft;
  // Since its last refill or allowed request; infinity: unknown.
  double idleSeconds;
  SavedBucket bucket;

  // What is lost with it.
  EvictionCost evictionCost() const noexcept {
    return banSecondsLeft > 0 ? EvictionCost::ofBanned()
                              : EvictionCost::ofOffender(violations, idleSeconds);
  }
  // When its ban began; kNever: it has none.
  double banBegan(double now, double banDuration) const noexcept {
    if (!(banSecondsLeft > 0)) return kNever;
    return now - (banDuration - banSecondsLeft);
  }
};

// Whether there was one.
template <class Record>
bool erase(Table<Record>& table, const Fingerprint& fingerprint) noexcept {
  Record* record = table.find(fingerprint);
  if (record == nullptr) return false;
  table.erase(record);
  return true;
}

}  // namespace relay_limiter
