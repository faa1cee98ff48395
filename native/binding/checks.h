// The hot calls of a limiter object: raw functions that check a peer by its key, or where it was
// found the last time. `Self` is a LimiterObject.
#pragma once

#include <node_api.h>

#include "../limiters/records.h"
#include "../limiters/verdict.h"
#include "arguments.h"

namespace relay_limiter {

// What lib/engine/engine.ts calls the verdicts.
constexpr uint32_t kRefusedAnswer = 1;
constexpr uint32_t kBanBeginsAnswer = 2;
constexpr double kDisconnectAnswer = -1;

// Answers a check that can refuse or ban; nullptr is undefined: allowed.
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

// Whether the short way is open and allows: then the check is done. `find` returns the bucket, or
// nullptr.
template <class Core, class Find>
bool tryFastPath(Core& core, Find&& find, double cost, double now) noexcept {
  if (!core.canUseFastPath()) return false;
  Bucket* bucket = find();
  if (bucket == nullptr || !core.fastPath(cost, now)(*bucket)) return false;
  ++core.counters().allowed;
  return true;
}

// What a check does that its short way did not decide.
template <class Self>
RELAY_LIMITER_NOINLINE napi_value decide(napi_env env, Self& self, const Key& key, double cost,
                                         double now) noexcept {
  double delay = 0;
  const Verdict verdict = self.checkBucket(key, cost, now, delay);
  self.reportExternalMemory(env);
  return Self::answer(env, verdict, delay);
}

// A check of a bucket: check(key).
template <class Self>
napi_value checkCost(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr) return nullptr;
  Self& self = *call.object;
  KeyText text;
  if (!text.read(env, call.arguments[0])) return nullptr;
  const double cost = call.cost();
  const double now = call.now();
  const Key key = text.key(self.secret());
  const auto find = [&] { return self.core().buckets().find(key.fingerprint); };
  if (tryFastPath(self.core(), find, cost, now)) return nullptr;
  return decide(env, self, key, cost, now);
}

// The check of a peer whose bucket may be at hand. Only to name a new offender is its key read, by
// readKey(text); kNeedsName, an exception pending, where that fails.
template <class Self, class ReadKey>
Verdict checkBucket(Self& self, const Fingerprint& fingerprint, Bucket*& bucket, double cost,
                    double now, double& delay, ReadKey&& readKey) noexcept {
  const Verdict verdict = self.checkBucket({fingerprint, nullptr, 0}, bucket, cost, now, delay);
  if (verdict != Verdict::kNeedsName) return verdict;
  KeyText text;
  return readKey(text) ? self.checkBucket(text.named(fingerprint), bucket, cost, now, delay)
                       : verdict;
}

// What an opened peer's check does that its short way did not decide.
template <class Self>
RELAY_LIMITER_NOINLINE napi_value decide(napi_env env, Self& self, Bucket* bucket, napi_value key,
                                         double cost, double now) noexcept {
  double delay = 0;
  const auto readKey = [&](KeyText& text) { return text.read(env, key); };
  const Fingerprint fingerprint = bucket->fingerprint;
  const Verdict verdict = checkBucket(self, fingerprint, bucket, cost, now, delay, readKey);
  if (verdict == Verdict::kNeedsName) return nullptr;
  self.reportExternalMemory(env);
  return Self::answer(env, verdict, delay);
}

// The check of an opened peer whose bucket is not where it was, if it has one.
template <class Self>
RELAY_LIMITER_NOINLINE napi_value seekBucket(napi_env env, Self& self, napi_value value,
                                             double cost, double now) noexcept {
  KeyText text;
  if (!text.read(env, value)) return nullptr;
  const Key key = text.key(self.secret());
  const napi_value result = decide(env, self, key, cost, now);
  self.writeSlot(self.core().buckets(), key.fingerprint);
  return result;
}

// checkPeer(key): the check of an opened peer, whose seat JavaScript has written.
template <class Self>
napi_value checkPeer(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr) return nullptr;
  Self& self = *call.object;
  Bucket* bucket = self.core().buckets().at(self.peerSlot());
  const double cost = call.cost();
  const double now = call.now();
  if (bucket == nullptr) return seekBucket(env, self, call.arguments[0], cost, now);
  const auto there = [bucket] { return bucket; };
  if (tryFastPath(self.core(), there, cost, now)) return nullptr;
  return decide(env, self, bucket, call.arguments[0], cost, now);
}

// The check of a time, where the peer's key was read.
template <class Self, auto kCheck>
napi_value decideTime(napi_env env, Self& self, const Key& key, double now) noexcept {
  LastAllowed* last = self.core().allowedAt().find(key.fingerprint);
  const Verdict verdict = (self.core().*kCheck)(key, last, now);
  self.reportExternalMemory(env);
  return answerOf(env, verdict);
}

// The check of a time: check(key) of a limiter that can ban.
template <class Self, auto kCheck>
napi_value checkTime(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr) return nullptr;
  Self& self = *call.object;
  KeyText text;
  if (!text.read(env, call.arguments[0])) return nullptr;
  return decideTime<Self, kCheck>(env, self, text.key(self.secret()), call.now());
}

// The same of an opened peer whose time is not where it was, if it has one.
template <class Self, auto kCheck>
RELAY_LIMITER_NOINLINE napi_value seekTime(napi_env env, Self& self, napi_value value,
                                           double now) noexcept {
  KeyText text;
  if (!text.read(env, value)) return nullptr;
  const Key key = text.key(self.secret());
  const napi_value result = decideTime<Self, kCheck>(env, self, key, now);
  self.writeSlot(self.core().allowedAt(), key.fingerprint);
  return result;
}

// The same of an opened peer, whose seat JavaScript has written.
template <class Self, auto kCheck>
napi_value checkPeerTime(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr) return nullptr;
  Self& self = *call.object;
  LastAllowed* last = self.core().allowedAt().at(self.peerSlot());
  const double now = call.now();
  if (last == nullptr) return seekTime<Self, kCheck>(env, self, call.arguments[0], now);
  const Fingerprint fingerprint = last->fingerprint;
  Verdict verdict = (self.core().*kCheck)({fingerprint, nullptr, 0}, last, now);
  if (verdict == Verdict::kNeedsName) {
    KeyText text;
    if (!text.read(env, call.arguments[0])) return nullptr;
    verdict = (self.core().*kCheck)(text.named(fingerprint), last, now);
  }
  self.reportExternalMemory(env);
  return answerOf(env, verdict);
}

}  // namespace relay_limiter
