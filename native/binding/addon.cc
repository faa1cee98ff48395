// The exports of the addon: its version, its ABI version and its classes. lib/engine/native.ts
// loads them, and lib/engine/native-limiters.ts describes them.

#include "../limiters/direct-limiter.h"
#include "../limiters/orderbook-limiter.h"
#include "../limiters/rate-limiter.h"
#include "checks.h"
#include "configs.h"
#include "group.h"
#include "lease-table-object.h"
#include "limiter-object.h"
#include "rule-limiter-calls.h"
#include "rule-limiter-methods.h"
#include "shared-objects.h"
#include "shared-rules-methods.h"

namespace relay_limiter {
namespace {

// Raised when the exports or their calling convention change; ABI_VERSION in
// lib/engine/native-limiters.ts is the same number.
constexpr int kAbiVersion = 12;

// tokens(key) of a limiter with buckets.
template <class Self>
napi_value tokens(napi_env env, napi_callback_info info) noexcept {
  const KeyCall<Self> call(env, info);
  if (call.object == nullptr) return nullptr;
  napi_value result = nullptr;
  napi_create_double(env, call.object->core().tokens(call.key()), &result);
  return result;
}

// refilledTokens(key) of a RateLimiter.
template <class Self>
napi_value refilledTokens(napi_env env, napi_callback_info info) noexcept {
  const KeyCall<Self> call(env, info);
  if (call.object == nullptr) return nullptr;
  napi_value result = nullptr;
  napi_create_double(env, call.object->core().refilledTokens(call.key(), call.now()), &result);
  return result;
}

// isBanned(key) of a limiter that bans.
template <class Self>
napi_value isBanned(napi_env env, napi_callback_info info) noexcept {
  const KeyCall<Self> call(env, info);
  if (call.object == nullptr) return nullptr;
  const bool banned = call.object->core().isBanned(call.key().fingerprint, call.now());
  napi_value result = nullptr;
  napi_get_boolean(env, banned, &result);
  return result;
}

// banSecondsLeft(key) of a limiter that bans.
template <class Self>
napi_value banSecondsLeft(napi_env env, napi_callback_info info) noexcept {
  const KeyCall<Self> call(env, info);
  if (call.object == nullptr) return nullptr;
  const double seconds = call.object->core().banSecondsLeft(call.key().fingerprint, call.now());
  napi_value result = nullptr;
  napi_create_double(env, seconds, &result);
  return result;
}

class RateLimiterObject : public LimiterObject<RateLimiterObject, RateLimiter> {
 public:
  using Self = RateLimiterObject;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    auto methods = groupMethods();
    methods.push_back(InstanceMethod("delay", &RateLimiterObject::delay));
    return LimiterObject::define(env, "RateLimiter", registry, std::move(methods),
                                 {{"check", checkByKey<BucketCheck<Self>>},
                                  {"checkPeer", checkBySlot<BucketCheck<Self>>},
                                  {"checkGroup", checkGroup<Self>},
                                  {"tokens", relay_limiter::tokens<Self>},
                                  {"refilledTokens", relay_limiter::refilledTokens<Self>}});
  }

  explicit RateLimiterObject(const Napi::CallbackInfo& info)
      : LimiterObject(info, rateLimiterConfigIn(info)) {}

  // The delay is only computed for an answer: the check of a group needs none.
  napi_value answer(napi_env env, Verdict verdict, const Bucket* bucket, double cost) noexcept {
    const bool delays = verdict == Verdict::kRefused;
    callArguments().delay = delays ? core().delaySeconds(*bucket, cost) : kDisconnectDelay;
    return answerOf(env, verdict);
  }

 private:
  Napi::Value delay(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    return Napi::Number::New(info.Env(), core().delay(text.key(secret())));
  }
};

class OrderbookObject : public LimiterObject<OrderbookObject, OrderbookLimiter> {
 public:
  using Self = OrderbookObject;
  using Check = TimeCheck<Self, &OrderbookLimiter::check>;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    return LimiterObject::define(env, "OrderbookLimiter", registry, banMethods(),
                                 {{"check", checkByKey<Check>},
                                  {"checkPeer", checkBySlot<Check>},
                                  {"isBanned", relay_limiter::isBanned<Self>},
                                  {"banSecondsLeft", relay_limiter::banSecondsLeft<Self>}});
  }

  explicit OrderbookObject(const Napi::CallbackInfo& info)
      : LimiterObject(info, orderbookConfigIn(info)) {}
};

class DirectObject : public LimiterObject<DirectObject, DirectLimiter> {
 public:
  using Self = DirectObject;
  using MessageCheck = BucketCheck<Self>;
  using OrderbookCheck = TimeCheck<Self, &DirectLimiter::checkOrderbook>;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    auto methods = groupMethods();
    const auto more = banMethods();
    methods.insert(methods.end(), more.begin(), more.end());
    return LimiterObject::define(env, "DirectLimiter", registry, std::move(methods),
                                 {{"checkMessage", checkByKey<MessageCheck>},
                                  {"checkOrderbook", checkByKey<OrderbookCheck>},
                                  {"checkPeerOrderbook", checkBySlot<OrderbookCheck>},
                                  {"isBanned", relay_limiter::isBanned<Self>},
                                  {"banSecondsLeft", relay_limiter::banSecondsLeft<Self>},
                                  {"checkPeer", checkBySlot<MessageCheck>},
                                  {"checkGroup", checkGroup<Self>},
                                  {"tokens", relay_limiter::tokens<Self>}});
  }

  explicit DirectObject(const Napi::CallbackInfo& info)
      : LimiterObject(info, directConfigIn(info)) {}

  static napi_value answer(napi_env env, Verdict verdict, const Bucket*, double) noexcept {
    return answerOf(env, verdict);
  }
};

// The registries of one environment. Its objects hold them as well, and may outlive it.
struct Registries {
  explicit Registries(CallArguments* callArguments)
      : rateLimiters(*new Registry<RateLimiterObject>(callArguments)),
        orderbookLimiters(*new Registry<OrderbookObject>(callArguments)),
        directLimiters(*new Registry<DirectObject>(callArguments)),
        leaseTables(*new Registry<LeaseTableObject>(callArguments)),
        ruleLimiters(*new Registry<RuleLimiterObject>(callArguments)),
        sharedRateLimiters(*new Registry<SharedRateLimiterObject>(callArguments)),
        sharedOrderbookLimiters(*new Registry<SharedOrderbookObject>(callArguments)),
        sharedDirectLimiters(*new Registry<SharedDirectObject>(callArguments)),
        sharedRuleLimiters(*new Registry<SharedRulesObject>(callArguments)) {}

  ~Registries() {
    rateLimiters.release();
    orderbookLimiters.release();
    directLimiters.release();
    leaseTables.release();
    ruleLimiters.release();
    sharedRateLimiters.release();
    sharedOrderbookLimiters.release();
    sharedDirectLimiters.release();
    sharedRuleLimiters.release();
  }

  Registry<RateLimiterObject>& rateLimiters;
  Registry<OrderbookObject>& orderbookLimiters;
  Registry<DirectObject>& directLimiters;
  Registry<LeaseTableObject>& leaseTables;
  Registry<RuleLimiterObject>& ruleLimiters;
  Registry<SharedRateLimiterObject>& sharedRateLimiters;
  Registry<SharedOrderbookObject>& sharedOrderbookLimiters;
  Registry<SharedDirectObject>& sharedDirectLimiters;
  Registry<SharedRulesObject>& sharedRuleLimiters;
  // Keeps the memory of the call arguments.
  Napi::ObjectReference callArguments;
};

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  Napi::ArrayBuffer callArguments = Napi::ArrayBuffer::New(env, sizeof(CallArguments));
  // The thread is ending, and nothing will read its exports.
  if (callArguments.IsEmpty()) return exports;
  auto* registries = new Registries(reinterpret_cast<CallArguments*>(callArguments.Data()));
  registries->callArguments = Napi::Persistent(callArguments.As<Napi::Object>());
  env.SetInstanceData(registries);
  exports.Set("version", RELAY_LIMITER_VERSION);
  exports.Set("abiVersion", kAbiVersion);
  exports.Set("callArguments", callArguments);
  exports.Set("RateLimiter", RateLimiterObject::define(env, registries->rateLimiters));
  exports.Set("OrderbookLimiter", OrderbookObject::define(env, registries->orderbookLimiters));
  exports.Set("DirectLimiter", DirectObject::define(env, registries->directLimiters));
  exports.Set("LeaseTable", LeaseTableObject::define(env, registries->leaseTables));
  exports.Set("RuleLimiter", RuleLimiterObject::define(env, registries->ruleLimiters));
  exports.Set("SharedRateLimiter",
              SharedRateLimiterObject::define(env, registries->sharedRateLimiters));
  exports.Set("SharedOrderbookLimiter",
              SharedOrderbookObject::define(env, registries->sharedOrderbookLimiters));
  exports.Set("SharedDirectLimiter",
              SharedDirectObject::define(env, registries->sharedDirectLimiters));
  exports.Set("SharedRuleLimiter", SharedRulesObject::define(env, registries->sharedRuleLimiters));
  exports.Set("inspectShared", Napi::Function::New(env, inspectShared));
  exports.Set("removeShared", Napi::Function::New(env, removeShared));
  return exports;
}

}  // namespace

NODE_API_MODULE(relay_limiter, initialize)

}  // namespace relay_limiter
