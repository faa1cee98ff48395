// The limiters in shared files as classes of the addon, and what can be done with a shared file
// without a limiter.
#pragma once

#include "../shared/rule-config.h"
#include "configs.h"
#include "shared-calls.h"

namespace relay_limiter {

class SharedRateLimiterObject : public SharedObject<SharedRateLimiterObject, BasicRateLimiter> {
 public:
  using Self = SharedRateLimiterObject;
  using Calls = SharedBucketCalls<Self>;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    auto methods = groupMethods();
    methods.push_back(InstanceMethod("delay", &SharedRateLimiterObject::delay));
    return SharedObject::define(env, "SharedRateLimiter", registry, std::move(methods),
                                {{"check", checkSharedByKey<Calls>},
                                 {"checkPeer", checkSharedBySlot<Calls>},
                                 {"checkGroup", checkSharedGroup<Calls>},
                                 {"tokens", sharedTokens<Self>},
                                 {"refilledTokens", sharedRefilledTokens<Self>}});
  }

  explicit SharedRateLimiterObject(const Napi::CallbackInfo& info)
      : SharedObject(info, rateLimiterConfigIn(info)) {}

 private:
  Napi::Value delay(const Napi::CallbackInfo& info) {
    double seconds = 0;
    withPeer(info, 0, [&](Core& core, const Key& key, double) { seconds = core.delay(key); });
    return Napi::Number::New(info.Env(), seconds);
  }
};

class SharedOrderbookObject : public SharedObject<SharedOrderbookObject, BasicOrderbookLimiter> {
 public:
  using Self = SharedOrderbookObject;
  using Calls = SharedTimeCalls<Self, &BasicOrderbookLimiter<SharedStorage>::check>;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    return SharedObject::define(env, "SharedOrderbookLimiter", registry, banMethods(),
                                {{"check", checkSharedByKey<Calls>},
                                 {"checkPeer", checkSharedBySlot<Calls>},
                                 {"isBanned", sharedIsBanned<Self>},
                                 {"banSecondsLeft", sharedBanSecondsLeft<Self>}});
  }

  explicit SharedOrderbookObject(const Napi::CallbackInfo& info)
      : SharedObject(info, orderbookConfigIn(info)) {}
};

class SharedDirectObject : public SharedObject<SharedDirectObject, BasicDirectLimiter> {
 public:
  using Self = SharedDirectObject;
  using MessageCalls = SharedBucketCalls<Self>;
  using OrderbookCalls = SharedTimeCalls<Self, &BasicDirectLimiter<SharedStorage>::checkOrderbook>;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    auto methods = groupMethods();
    const auto more = banMethods();
    methods.insert(methods.end(), more.begin(), more.end());
    return SharedObject::define(env, "SharedDirectLimiter", registry, std::move(methods),
                                {{"checkMessage", checkSharedByKey<MessageCalls>},
                                 {"checkOrderbook", checkSharedByKey<OrderbookCalls>},
                                 {"checkPeerOrderbook", checkSharedBySlot<OrderbookCalls>},
                                 {"isBanned", sharedIsBanned<Self>},
                                 {"banSecondsLeft", sharedBanSecondsLeft<Self>},
                                 {"checkPeer", checkSharedBySlot<MessageCalls>},
                                 {"checkGroup", checkSharedGroup<MessageCalls>},
                                 {"tokens", sharedTokens<Self>}});
  }

  explicit SharedDirectObject(const Napi::CallbackInfo& info)
      : SharedObject(info, directConfigIn(info)) {}
};

// A name in the header of a file, of which every character may be used. Not a Napi::String, which
// the setters of objects would copy into a std::string.
template <size_t kLength>
napi_value nameIn(napi_env env, const char (&name)[kLength]) {
  return Napi::String::New(env, name, strnlen(name, kLength));
}

// inspectShared(path): what the header of a file says; undefined if there is none.
inline Napi::Value inspectShared(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Utf8Text path(info[0]);
  SharedError error;
  SharedRegion region;
  const SharedFile::Opened opened = region.inspect(path.text(), error);
  if (error) throwShared(env, error);
  if (opened != SharedFile::Opened::kYes) return env.Undefined();
  Napi::Object result = sharedStateOf(env, region);
  const SharedLayout layout = region.layout();
  result.Set("limiter", nameIn(env, layout.limiter));
  Napi::Object config = Napi::Object::New(env);
  for (size_t i = 0; i < std::min<uint64_t>(layout.numbers, SharedLayout::kMostNumbers); ++i) {
    const ConfigNumber& number = layout.config[i];
    config.Set(nameIn(env, number.name), Napi::Number::New(env, number.value));
  }
  result.Set("config", config);
  result.Set("bytes", static_cast<double>(layout.namesAt()));
  result.Set("maxBytes", static_cast<double>(layout.configAt()));
  if (layout.configBytes != kRuleConfigBytes) return result;
  RuleConfig rules;
  if (!rules.read(region, error)) {
    throwShared(env, error);
    return env.Undefined();
  }
  napi_value text = nullptr;
  if (napi_create_string_utf8(env, rules.text(), rules.textBytes(), &text) == napi_ok)
    result.Set("rules", text);
  return result;
}

// removeShared(path): whether there was a file.
inline Napi::Value removeShared(const Napi::CallbackInfo& info) {
  const Utf8Text path(info[0]);
  SharedError error;
  const bool removed = SharedRegion::remove(path.text(), error);
  if (error) throwShared(info.Env(), error);
  return Napi::Boolean::New(info.Env(), removed);
}

}  // namespace relay_limiter
