// The addon's door: three classes and the version that lib/engine/native.ts asks for.

#include "../direct-limiter.h"
#include "../orderbook-limiter.h"
#include "../rate-limiter.h"
#include "checks.h"
#include "group.h"
#include "limiter-object.h"

namespace relay_limiter {
namespace {

class RateLimiterObject : public LimiterObject<RateLimiterObject, RateLimiter> {
 public:
  static Napi::Function define(Napi::Env env) {
    auto methods = groupMethods();
    methods.push_back(InstanceMethod("delay", &RateLimiterObject::delay));
    return LimiterObject::define(env, "RateLimiter", std::move(methods));
  }

  explicit RateLimiterObject(const Napi::CallbackInfo& info)
      : LimiterObject(info, {numberIn(info, "rateLimit"), numberIn(info, "burstLimit"),
                             numberIn(info, "disconnectThreshold", kInfinity)}) {
    addHotCall(info, "check", checkCost<RateLimiterObject>);
    addHotCall(info, "checkPeer", checkPeer<RateLimiterObject>);
    addHotCall(info, "checkGroup", checkGroup<RateLimiterObject>);
  }

  Verdict checkBucket(const Key& key, double cost, double now, double& delay) noexcept {
    return core().check(key, cost, now, delay);
  }

  Verdict checkBucket(const Key& key, Bucket*& bucket, double cost, double now,
                      double& delay) noexcept {
    return core().check(key, bucket, cost, now, delay);
  }

  // Allowed is undefined, the cheapest value there is to return.
  static napi_value answer(napi_env env, Verdict verdict, double delay) noexcept {
    napi_value result = nullptr;
    if (verdict == Verdict::kAllowed) return result;
    if (verdict == Verdict::kNoMemory) {
      throwNoMemory(env);
    } else {
      napi_create_double(env, verdict == Verdict::kRefused ? delay : kDisconnectAnswer, &result);
    }
    return result;
  }

 private:
  Napi::Value delay(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    return Napi::Number::New(info.Env(), core().delay(text.key(secret()).fingerprint));
  }
};

// The two limiters that ban share how they answer isBanned.
template <class Self>
napi_value isBanned(napi_env env, napi_callback_info info) noexcept {
  const Arguments<Self, 2> arguments(env, info);
  KeyText text;
  if (!text.read(env, arguments.values[0])) return nullptr;
  Self& self = *arguments.data;
  const bool banned =
      self.core().isBanned(text.key(self.secret()).fingerprint, arguments.now(env, 1));
  napi_value result = nullptr;
  napi_get_boolean(env, banned, &result);
  return result;
}

class OrderbookObject : public LimiterObject<OrderbookObject, OrderbookLimiter> {
 public:
  static Napi::Function define(Napi::Env env) {
    return LimiterObject::define(env, "OrderbookLimiter", {});
  }

  explicit OrderbookObject(const Napi::CallbackInfo& info)
      : LimiterObject(info,
                      {numberIn(info, "interval"), numberIn(info, "violationBanThreshold"),
                       numberIn(info, "violationWarningThreshold"),
                       numberIn(info, "violationSevereThreshold"), numberIn(info, "banDuration")}) {
    addHotCall(info, "check", checkTime<OrderbookObject, &OrderbookLimiter::check>);
    addHotCall(info, "checkPeer", checkPeerTime<OrderbookObject, &OrderbookLimiter::check>);
    addHotCall(info, "isBanned", isBanned<OrderbookObject>);
  }
};

class DirectObject : public LimiterObject<DirectObject, DirectLimiter> {
 public:
  static Napi::Function define(Napi::Env env) {
    return LimiterObject::define(env, "DirectLimiter", groupMethods());
  }

  explicit DirectObject(const Napi::CallbackInfo& info)
      : LimiterObject(info,
                      {numberIn(info, "messageRatePerSec"), numberIn(info, "messageBurst"),
                       numberIn(info, "orderbookInterval"), numberIn(info, "orderbookBanThreshold"),
                       numberIn(info, "banDuration")}) {
    addHotCall(info, "checkMessage", checkCost<DirectObject>);
    addHotCall(info, "checkOrderbook", checkTime<DirectObject, &DirectLimiter::checkOrderbook>);
    addHotCall(info, "checkPeerOrderbook",
               checkPeerTime<DirectObject, &DirectLimiter::checkOrderbook>);
    addHotCall(info, "isBanned", isBanned<DirectObject>);
    addHotCall(info, "checkPeer", checkPeer<DirectObject>);
    addHotCall(info, "checkGroup", checkGroup<DirectObject>);
  }

  Verdict checkBucket(const Key& key, double cost, double now, double&) noexcept {
    return core().checkMessage(key, cost, now);
  }

  Verdict checkBucket(const Key& key, Bucket*& bucket, double cost, double now, double&) noexcept {
    return core().checkMessage(key, bucket, cost, now);
  }

  static napi_value answer(napi_env env, Verdict verdict, double) noexcept {
    return answerOf(env, verdict);
  }
};

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("version", RELAY_LIMITER_VERSION);
  exports.Set("RateLimiter", RateLimiterObject::define(env));
  exports.Set("OrderbookLimiter", OrderbookObject::define(env));
  exports.Set("DirectLimiter", DirectObject::define(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(relay_limiter, initialize)

}  // namespace relay_limiter
