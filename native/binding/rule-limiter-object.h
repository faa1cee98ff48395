// RuleLimiterObject: a limiter of rules as a JavaScript object. rule-limiter-calls.h has its raw
// functions, rule-limiter-methods.h its other methods. lib/engine/native-rules.ts is its only
// caller.
#pragma once

#include <napi.h>

#include <memory>

#include "../limiters/rules/limiter.h"
#include "report.h"
#include "rule-object.h"

namespace relay_limiter {

class RuleLimiterObject : public RuleObject<RuleLimiterObject, RuleLimiter, ScopeState> {
 public:
  using Self = RuleLimiterObject;
  using ScopeKey = RuleLimiter::ScopeKey;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    return CoreObject::define(env, "RuleLimiter", registry,
                              withMethods({InstanceMethod("update", &Self::update)}),
                              {
                                  {"check", callByKeys<&RuleLimiter::check, false>},
                                  {"checkAndOpen", callByKeys<&RuleLimiter::check, true>},
                                  {"checkPeer", checkPeer},
                                  {"refund", callByKeys<&RuleLimiter::refund, false>},
                                  {"charge", callByKeys<&RuleLimiter::charge, false>},
                                  {"look", callByKeys<&RuleLimiter::look, false>},
                                  {"open", open},
                              });
  }

  // `new RuleLimiter(config, secret, RULE_NUMBERS, RULE_SLOTS)`
  explicit RuleLimiterObject(const Napi::CallbackInfo& info) : RuleObject(info) {
    if (!info.Env().IsExceptionPending()) start(info);
  }

 private:
  friend RuleObject;

  using ScopeCall = Call<Self, kMaxScopes>;
  using Operation = RuleAnswer (RuleLimiter::*)(const ScopeKey*, uint32_t, unsigned, double,
                                                RuleNumbers&);

  struct CallNumbers;

  void start(const Napi::CallbackInfo& info);

  // Whether a raw call can be done; if not, an exception is pending.
  bool accepts(napi_env env, const CallArguments& numbers) noexcept {
    return areIn(core().plan(), env, numbers);
  }

  napi_value answerOf(napi_env env, RuleAnswer answer) noexcept {
    napi_value result = nullptr;
    if (core().takeResized()) reportExternalMemory(env);
    if (answer == RuleAnswer::kAllowed) return result;
    if (answer == RuleAnswer::kNoMemory) {
      throwNoMemory(env);
    } else {
      napi_create_uint32(env, static_cast<uint32_t>(answer), &result);
    }
    return result;
  }

  template <Operation kOperation, bool kOpens>
  static napi_value callByKeys(napi_env env, napi_callback_info info) noexcept;
  static napi_value checkPeer(napi_env env, napi_callback_info info) noexcept;
  static napi_value open(napi_env env, napi_callback_info info) noexcept;

  double timeIn(const Napi::CallbackInfo& info, size_t index) {
    return core().time(info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue()
                                              : now());
  }
  // The scope in an argument; nullptr if it has no records, and then an exception is pending.
  ScopeState* scopeIn(const Napi::CallbackInfo& info, size_t index);
  // The number of a single scope in the first argument; if it is none, an exception is pending.
  unsigned singleScopeIn(const Napi::CallbackInfo& info);
  // The scope and the key in the first two arguments, as scopeIn().
  ScopeState* scopeAndKeyIn(const Napi::CallbackInfo& info, KeyText& text);

  void update(const Napi::CallbackInfo& info);
  Napi::Value peek(const Napi::CallbackInfo& info);
  Napi::Value ban(const Napi::CallbackInfo& info);
  Napi::Value unban(const Napi::CallbackInfo& info);
  Napi::Value banSecondsLeft(const Napi::CallbackInfo& info);
  Napi::Value longestBans(const Napi::CallbackInfo& info);
  Napi::Value violations(const Napi::CallbackInfo& info);
  void removePeer(const Napi::CallbackInfo& info);
  Napi::Value cleanup(const Napi::CallbackInfo& info);
  Napi::Value isCleaning(const Napi::CallbackInfo& info);
  Napi::Value totals(const Napi::CallbackInfo& info);
  Napi::Value statistics(const Napi::CallbackInfo& info);
  Napi::Value openWalk(const Napi::CallbackInfo& info);
  Napi::Value walk(const Napi::CallbackInfo& info);
  Napi::Value restoreOffenders(const Napi::CallbackInfo& info);
  Napi::Value changeSecret(const Napi::CallbackInfo& info);
  Napi::Value putDigests(const Napi::CallbackInfo& info);
  Napi::Value saveSingle(const Napi::CallbackInfo& info);
  void restoreSingle(const Napi::CallbackInfo& info);
  void clear(const Napi::CallbackInfo& info);
};

}  // namespace relay_limiter
