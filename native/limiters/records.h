// The records that limiters store per peer, 32 bytes each, and the parts of a snapshot that become
// records again. Violations, bans and keys are stored apart (offenders.h). Counterpart of
// lib/engine/js/records.ts.
#pragma once

#include <algorithm>
#include <limits>

#include "../table/table.h"
#include "arithmetic.h"
#include "eviction-cost.h"

namespace relay_limiter {

struct alignas(32) Bucket {
  Fingerprint fingerprint;
  // As of the last refill.
  double tokens;
  // In monotonic seconds, as all instants here.
  double lastRefill;

  // Takes over the numbers of another bucket of the same peer. Meanwhile the bucket is never fuller
  // than before and after.
  void set(const Bucket& other) noexcept {
    lastRefill = std::max(lastRefill, other.lastRefill);
    keepOrderOfWrites();
    tokens = other.tokens;
    keepOrderOfWrites();
    lastRefill = other.lastRefill;
  }
};

struct alignas(32) Lease {
  Fingerprint fingerprint;
  double tokens;
  // The tokens expire at this instant.
  double until;
};

struct alignas(32) LastAllowed {
  Fingerprint fingerprint;
  // When the peer's last request was allowed; kNever if that is unknown or a ban has ended since.
  double at;
};

using Buckets = Table<Bucket>;
using Leases = Table<Lease>;
using AllowedTimes = Table<LastAllowed>;

// Whether the first of two records of one peer allows less.
inline bool isLater(const LastAllowed& a, const LastAllowed& b) noexcept { return a.at > b.at; }

// Erases the record of a fingerprint; false if there is none.
template <class Table>
bool erase(Table& table, const Fingerprint& fingerprint) noexcept {
  auto* record = table.find(fingerprint);
  if (record == nullptr) return false;
  table.erase(record);
  return true;
}

// The bucket of a peer in a snapshot, if the snapshot has one.
struct SavedBucket {
  // As of the last refill; NaN if the snapshot has no bucket of this peer.
  double tokens;
  // Seconds between the last refill and the snapshot.
  double idleSeconds;

  static constexpr SavedBucket none() noexcept {
    return {std::numeric_limits<double>::quiet_NaN(), 0};
  }

  bool isPresent() const noexcept { return tokens == tokens; }

  Bucket toBucket(const Fingerprint& fingerprint, double now) const noexcept {
    return {fingerprint, tokens, now - idleSeconds};
  }
};

// A peer that a snapshot stores under a digest of its key.
struct SavedDigest {
  Fingerprint digest;
  // Seconds between the peer's last allowed request and the snapshot; NaN if the snapshot has no
  // such request.
  double idleSeconds;
  SavedBucket bucket;

  bool hasTime() const noexcept { return idleSeconds == idleSeconds; }

  LastAllowed toLastAllowed(double now) const noexcept { return {digest, now - idleSeconds}; }

  static SavedDigest of(const Bucket& bucket, double now) noexcept {
    return {bucket.fingerprint,
            std::numeric_limits<double>::quiet_NaN(),
            {bucket.tokens, elapsed(now, bucket.lastRefill)}};
  }
  static SavedDigest of(const LastAllowed& last, double now) noexcept {
    return {last.fingerprint, elapsed(now, last.at), SavedBucket::none()};
  }
};

// An offender in a snapshot.
struct SavedOffender {
  uint64_t violations;
  // 0 if no ban is in force.
  double banSecondsLeft;
  // Seconds since the peer's last refill or allowed request; infinity if unknown.
  double idleSeconds;
  SavedBucket bucket;

  EvictionCost evictionCost() const noexcept {
    return banSecondsLeft > 0 ? EvictionCost::ofBanned()
                              : EvictionCost::ofOffender(violations, idleSeconds);
  }

  // When the ban began; kNever without one.
  double banBegan(double now, double banDuration) const noexcept {
    if (!(banSecondsLeft > 0)) return kNever;
    return now - (banDuration - banSecondsLeft);
  }
};

// The rate and the capacity of a limiter's token buckets, and the operations that depend on them.
struct BucketParameters {
  // In tokens per second.
  double rate;
  double capacity;

  Bucket fullBucket(const Fingerprint& fingerprint, double now) const noexcept {
    return {fingerprint, capacity, now};
  }

  // Returns consume() of one cost at one instant, as a function of the bucket. The function holds
  // its parameters by value, so that a loop over buckets reads them only once.
  auto consumer(double cost, double now) const noexcept {
    return [cost, now, rate = rate, capacity = capacity](Bucket& bucket) noexcept {
      return relay_limiter::consume(bucket.tokens, bucket.lastRefill, cost, now, rate, capacity);
    };
  }

  bool consume(Bucket& bucket, double cost, double now) const noexcept {
    return consumer(cost, now)(bucket);
  }

  double delaySeconds(const Bucket& bucket, double cost) const noexcept {
    return relay_limiter::delaySeconds(bucket.tokens, cost, rate, capacity);
  }

  // The bucket's tokens after a refill at `now`.
  double refilledTokens(const Bucket& bucket, double now) const noexcept {
    return refill(bucket.tokens, bucket.lastRefill, now, rate, capacity);
  }

  double secondsUntilFull(const Bucket& bucket, double now) const noexcept {
    return relay_limiter::secondsUntilFull(bucket.tokens, bucket.lastRefill, now, rate, capacity);
  }

  // Whether the first of two buckets of one peer has fewer tokens at the later of both refills.
  bool isEmptier(const Bucket& a, const Bucket& b) const noexcept {
    const double later = std::max(a.lastRefill, b.lastRefill);
    return refill(a.tokens, a.lastRefill, later, rate, capacity) <
           refill(b.tokens, b.lastRefill, later, rate, capacity);
  }

  // The peer's bucket as a snapshot saves it.
  SavedBucket saved(const Bucket* bucket, double now) const noexcept {
    if (bucket == nullptr || !(secondsUntilFull(*bucket, now) > kSnapshotSeconds)) {
      return SavedBucket::none();
    }
    return SavedDigest::of(*bucket, now).bucket;
  }
};

}  // namespace relay_limiter
