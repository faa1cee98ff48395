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
constexpr double kDisconnectAnswer = -1;

// The answer of a check that can refuse or ban. nullptr returns undefined: allowed.
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

  // Whether the fast path allows the check; if so, the check is complete. `find` returns the bucket
  // or nullptr.
  template <class Find>
  bool tryFastPath(Limiter& limiter, Find&& find) const noexcept {
    auto& core = limiter.core();
    if (!core.canUseFastPath()) return false;
    Bucket* bucket = find();
    if (bucket == nullptr || !core.fastPath(cost, now)(*bucket)) return false;
    ++core.counters().allowed;
    return true;
  }

  // If `bucket` is nullptr, this finds or adds the peer's bucket.
  Verdict decide(Limiter& limiter, const Key& key, Bucket*& bucket, double& delay) const noexcept {
    return limiter.checkBucket(key, bucket, cost, now, delay);
  }

  static napi_value answer(napi_env env, Verdict verdict, double delay) noexcept {
    return Limiter::answer(env, verdict, delay);
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

  template <class Find>
  static bool tryFastPath(Limiter&, Find&&) noexcept {
    return false;
  }

  // If `last` is nullptr, this finds or adds the peer's time.
  Verdict decide(Limiter& limiter, const Key& key, LastAllowed*& last, double&) const noexcept {
    if (last == nullptr) last = table(limiter).find(key.fingerprint);
    return (limiter.core().*kCheck)(key, last, now);
  }

  static napi_value answer(napi_env env, Verdict verdict, double) noexcept {
    return answerOf(env, verdict);
  }

  double now;
};

// Checks a peer whose fingerprint is known; `record` may be nullptr. The key itself is read, by
// readKey(text), only if it must be stored or hashed again. Returns kNeedsText if readKey fails.
template <class Check, class ReadKey>
Verdict checkRecord(typename Check::Object& limiter, const Check& check,
                    const Fingerprint& fingerprint, typename Check::Record*& record, double& delay,
                    ReadKey&& readKey) noexcept {
  const Verdict verdict = check.decide(limiter, {fingerprint, nullptr, 0}, record, delay);
  if (verdict != Verdict::kNeedsText) return verdict;
  KeyText text;
  return readKey(text) ? check.decide(limiter, text.keyWith(fingerprint), record, delay) : verdict;
}

// The check by key that the fast path has not completed.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value decideByKey(napi_env env, typename Check::Object& limiter,
                                              const Key& key, Check check) noexcept {
  typename Check::Record* record = nullptr;
  double delay = 0;
  const Verdict verdict = check.decide(limiter, key, record, delay);
  limiter.reportExternalMemory(env);
  return Check::answer(env, verdict, delay);
}

// The check of an opened peer that the fast path has not completed.
template <class Check>
RELAY_LIMITER_NOINLINE napi_value decideByRecord(napi_env env, typename Check::Object& limiter,
                                                 typename Check::Record* record, napi_value key,
                                                 Check check) noexcept {
  double delay = 0;
  const Fingerprint fingerprint = record->fingerprint;
  const auto readKey = [&](KeyText& text) { return text.read(env, key); };
  const Verdict verdict = checkRecord(limiter, check, fingerprint, record, delay, readKey);
  if (verdict == Verdict::kNeedsText) return nullptr;
  limiter.reportExternalMemory(env);
  return Check::answer(env, verdict, delay);
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
  const auto find = [&] { return Check::table(limiter).find(key.fingerprint); };
  if (check.tryFastPath(limiter, find)) return nullptr;
  return decideByKey(env, limiter, key, check);
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
  if (check.tryFastPath(limiter, [record] { return record; })) return nullptr;
  return decideByRecord(env, limiter, record, call.arguments[0], check);
}

}  // namespace relay_limiter
