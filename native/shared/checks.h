// The checks of one peer in a shared file: by its key, or by the slot where its record was found
// the last time. If a verdict is kNeedsText, nothing has been decided: check again with the key's
// text.
#pragma once

#include "limiter.h"

namespace relay_limiter {

// Only RateLimiter answers with a delay.
inline double delayOf(const BasicRateLimiter<SharedStorage>& core, const Bucket* bucket,
                      double cost) noexcept {
  return bucket == nullptr ? 0.0 : core.delaySeconds(*bucket, cost);
}
inline double delayOf(const BasicDirectLimiter<SharedStorage>&, const Bucket*, double) noexcept {
  return 0.0;
}

// A check of a peer's bucket. `Limiter` is a SharedLimiter.
template <class Limiter>
struct SharedBucketCheck {
  using Core = typename Limiter::Core;
  using Record = Bucket;

  double cost;
  double now;
  // Of a refused check, in seconds.
  double delay = 0;

  static const auto& table(const Core& core) noexcept { return core.buckets(); }

  Verdict decide(Core& core, const Key& key, Bucket* bucket, double time) noexcept {
    const Verdict verdict = core.check(key, bucket, cost, time);
    if (verdict == Verdict::kRefused) delay = delayOf(core, bucket, cost);
    return verdict;
  }
};

// A check of the time of a peer's last allowed request. `kCheck` is a method of the core.
template <class Limiter, auto kCheck>
struct SharedTimeCheck {
  using Core = typename Limiter::Core;
  using Record = LastAllowed;

  double now;

  static const auto& table(const Core& core) noexcept { return core.allowedAt(); }

  Verdict decide(Core& core, const Key& key, LastAllowed* last, double time) noexcept {
    if (last == nullptr) last = core.allowedAt().find(key.fingerprint);
    return (core.*kCheck)(key, last, time);
  }
};

// Checks a peer by its key. Hashes the key again if its secret is out of date.
template <class Limiter, class Check>
Verdict checkShared(Limiter& limiter, Key& key, Check& check) noexcept {
  typename Limiter::Visit visit(limiter, key, Patience::kShort);
  if (!visit) return visit.failure();
  return check.decide(limiter.core(), key, nullptr, visit.time(check.now));
}

// The same; also writes the peer's slot.
template <class Limiter, class Check>
Verdict checkShared(Limiter& limiter, Key& key, Check& check, PeerSlot& slot) noexcept {
  typename Limiter::Visit visit(limiter, key, Patience::kShort);
  if (!visit) return visit.failure();
  auto& core = limiter.core();
  const Verdict verdict = check.decide(core, key, nullptr, visit.time(check.now));
  auto* record = Check::table(core).find(key.fingerprint);
  slot = record == nullptr ? PeerSlot::of(key.fingerprint) : Check::table(core).slotOf(record);
  return verdict;
}

// Checks a peer at its slot. kNeedsText if its record is not there.
template <class Limiter, class Check>
Verdict checkSharedAt(Limiter& limiter, const PeerSlot& slot, Check& check) noexcept {
  if (slot.page() >= limiter.layout().shards) return Verdict::kNeedsText;
  typename Limiter::Visit visit(limiter, static_cast<uint32_t>(slot.page()), Patience::kShort);
  if (!visit) return visit.failure();
  auto& core = limiter.core();
  auto* record = Check::table(core).at(slot);
  if (record == nullptr) return Verdict::kNeedsText;
  return check.decide(core, {record->fingerprint, nullptr, 0}, record, visit.time(check.now));
}

}  // namespace relay_limiter
