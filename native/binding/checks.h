// The hot functions of a limiter object: raw functions that check a peer by its key, or by the slot
// where its record was found the last time.
#pragma once

#include <node_api.h>

#include "../limiters/records.h"
#include "../limiters/verdict.h"
#include "arguments.h"

namespace relay_limiter {

// The answers of a check. lib/engine/engine.ts has the same; test/addon.test.ts compares them.
constexpr uint32_t kRefusedAnswer = 1;
constexpr uint32_t kBanBeginsAnswer = 2;
constexpr double kDisconnectDelay = -1;

// The answer of a check. nullptr returns undefined, the cheapest value: allowed.
inline napi_value answerOf(napi_env env, Verdict verdict) noexcept {
  napi_value result = nullptr;
  if (verdict == Verdict::kAllowed) return result;
  if (verdict == Verdict::kNoMemory) {
    throwNoMemory(env);
    return result;
  }
  napi_create_uint32(env, verdict == Verdict::kBanBegins ? kBanBeginsAnswer : kRefusedAnswer,
                     &result);
  return result;
}

// A check of a peer's bucket. `Limiter` is a LimiterObject.
template <class Limiter>
struct BucketCheck {
  using Object = Limiter;
  using Record = Bucket;

  template <class Call>
  explicit BucketCheck(const Call& call) noexcept : cost(call.cost()), now(call.now()) {}

  static const Buckets& table(Limiter& limiter) noexcept { return limiter.core().buckets(); }

  static bool canUseFastPath(Limiter& limiter) noexcept { return limiter.core().canUseFastPath(); }

  // Whether the fast path allows the check; if so, the check is complete.
  bool allow(Limiter& limiter, Bucket& bucket) const noexcept {
    auto& core = limiter.core();
    if (!core.fastPath(cost, now)(bucket)) return false;
    ++core.counters().allowed;
    return true;
  }

  // Refuses a check that the fast path does not allow. If the verdict is kNeedsText, nothing is
  // decided: call decide() at the same instant.
  static Verdict refuse(Limiter& limiter, const Bucket& bucket) noexcept {
    auto& core = limiter.core();
    return core.refuse([&] { return core.offenders().table().find(bucket.fingerprint); });
  }

  // If `bucket` is nullptr, this finds or adds the peer's bucket.
  Verdict decide(Limiter& limiter, const Key& key, Bucket*& bucket) const noexcept {
    return limiter.core().check(key, bucket, cost, now);
  }

  napi_value answer(napi_env env, Limiter& limiter, Verdict verdict,
                    const Bucket* bucket) const noexcept {
    return limiter.answer(env, verdict, bucket, cost);
  }

  double cost;
  double now;
};

// A check of the time of a peer's last allowed request. `kCheck` is a method of the core.
template <class Limiter, auto kCheck>
struct TimeCheck {
  using Object = Limiter;
  using Record = LastAllowed;

  template <class Call>
  explicit TimeCheck(const Call& call) noexcept : now(call.now()) {}

  static const AllowedTimes& table(Limiter& limiter) noexcept { return limiter.core().allowedAt(); }

  static constexpr bool canUseFastPath(Limiter&) noexcept { return false; }
  static constexpr bool allow(Limiter&, LastAllowed&) noexcept { return false; }
  static constexpr Verdict refuse(Limiter&, const LastAllowed&) noexcept {
    return Verdict::kNeedsText;
  }

  // If `last` is nullptr, this finds or adds the peer's time.
  Verdict decide(Limiter& limiter, const Key& key, LastAllowed*& last) const noexcept {
    if (last == nullptr) last = table(limiter).find(key.fingerprint);
    return (limiter.core().*kCheck)(key, last, now);
  }

  static napi_value answer(napi_env env, Limiter&, Verdict verdict, const LastAllowed*) noexcept {
    return answerOf(env, verdict);
  }

  double now;
};

// Checks a peer whose fingerprint is known; `record` may be nullptr. The key itself is read, by
// readKey(text), only if it must be stored or hashed again. Returns kNeedsText if readKey fails.
template <class Check, class ReadKey>
Verdict checkRecord(typename Check::Object& limiter, const Check& check,
                    const Fingerprint& fingerprint, typename Check::Record*& record,
                    ReadKey&& readKey) noexcept {
  const Verdict verdict = check.decide(limiter, {fingerprint, nullptr, 0}, record);
  if (verdict != Verdict::kNeedsText) return verdict;
  KeyText text;
  return readKey(text) ? check.decide(limiter, text.keyWith(fingerprint), record) : verdict;
}

// The check by key that the fast path has not completed.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value decideByKey(napi_env env, typename Check::Object& limiter,
                                              const Key& key, Check check) noexcept {
  typename Check::Record* record = nullptr;
  const Verdict verdict = check.decide(limiter, key, record);
  limiter.reportExternalMemory(env);
  return check.answer(env, limiter, verdict, record);
}

// The check by key that the fast path has not allowed, if it found the record.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value refuseByKey(napi_env env, typename Check::Object& limiter,
                                              const Key& key, const typename Check::Record& record,
                                              Check check) noexcept {
  const Verdict verdict = check.refuse(limiter, record);
  if (verdict == Verdict::kNeedsText) return decideByKey(env, limiter, key, check);
  return check.answer(env, limiter, verdict, &record);
}

// The check of an opened peer that the fast path has not completed.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value decideByRecord(napi_env env, typename Check::Object& limiter,
                                                 typename Check::Record* record, napi_value key,
                                                 Check check) noexcept {
  const Fingerprint fingerprint = record->fingerprint;
  const auto readKey = [&](KeyText& text) { return text.read(env, key); };
  const Verdict verdict = checkRecord(limiter, check, fingerprint, record, readKey);
  if (verdict == Verdict::kNeedsText) return nullptr;
  limiter.reportExternalMemory(env);
  return check.answer(env, limiter, verdict, record);
}

// The check of an opened peer that the fast path has not allowed.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value refuseByRecord(napi_env env, typename Check::Object& limiter,
                                                 typename Check::Record* record, napi_value key,
                                                 Check check) noexcept {
  const Verdict verdict = check.refuse(limiter, *record);
  if (verdict == Verdict::kNeedsText) return decideByRecord(env, limiter, record, key, check);
  return check.answer(env, limiter, verdict, record);
}

// The check of an opened peer whose slot is out of date: goes by the key and writes the slot.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value resolveSlot(napi_env env, typename Check::Object& limiter,
                                              napi_value value, Check check) noexcept {
  KeyText text;
  if (!text.read(env, value)) return nullptr;
  const Key key = text.key(limiter.secret());
  const napi_value result = decideByKey(env, limiter, key, check);
  limiter.writeSlot(Check::table(limiter), key.fingerprint);
  return result;
}

// check(key)
template <class Check>
napi_value checkByKey(napi_env env, napi_callback_info info) noexcept {
  const KeyCall<typename Check::Object> call(env, info);
  if (call.object == nullptr) return nullptr;
  auto& limiter = *call.object;
  const Check check(call);
  const Key key = call.key();
  if (!Check::canUseFastPath(limiter)) return decideByKey(env, limiter, key, check);
  auto* record = Check::table(limiter).find(key.fingerprint);
  if (record == nullptr) return decideByKey(env, limiter, key, check);
  if (check.allow(limiter, *record)) return nullptr;
  return refuseByKey(env, limiter, key, *record, check);
}

// checkPeer(key): the check of an opened peer. JavaScript has written the peer's slot.
template <class Check>
napi_value checkBySlot(napi_env env, napi_callback_info info) noexcept {
  const Call<typename Check::Object, 1> call(env, info);
  if (call.object == nullptr) return nullptr;
  auto& limiter = *call.object;
  const Check check(call);
  auto* record = Check::table(limiter).at(limiter.peerSlot());
  if (record == nullptr) return resolveSlot(env, limiter, call.arguments[0], check);
  if (!Check::canUseFastPath(limiter)) {
    return decideByRecord(env, limiter, record, call.arguments[0], check);
  }
  if (check.allow(limiter, *record)) return nullptr;
  return refuseByRecord(env, limiter, record, call.arguments[0], check);
}

}  // namespace relay_limiter
