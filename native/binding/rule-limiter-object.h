// RuleLimiterObject: a limiter of rules as a JavaScript object. rule-limiter-calls.h has its raw
// functions, rule-limiter-methods.h its other methods. lib/engine/native-rules.ts is its only
// caller.
#pragma once

#include <napi.h>

#include <memory>

#include "../limiters/clock.h"
#include "../limiters/rules/limiter.h"
#include "core-object.h"
#include "handle.h"
#include "report.h"
#include "rule-arguments.h"

namespace relay_limiter {

class RuleLimiterObject : public CoreObject<RuleLimiterObject, RuleLimiter> {
 public:
  using Self = RuleLimiterObject;
  using ScopeKey = RuleLimiter::ScopeKey;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    return CoreObject::define(env, "RuleLimiter", registry,
                              {
                                  InstanceMethod("update", &Self::update),
                                  InstanceMethod("peek", &Self::peek),
                                  InstanceMethod("ban", &Self::ban),
                                  InstanceMethod("unban", &Self::unban),
                                  InstanceMethod("banSecondsLeft", &Self::banSecondsLeft),
                                  InstanceMethod("longestBans", &Self::longestBans),
                                  InstanceMethod("violations", &Self::violations),
                                  InstanceMethod("removePeer", &Self::removePeer),
                                  InstanceMethod("cleanup", &Self::cleanup),
                                  InstanceMethod("isCleaning", &Self::isCleaning),
                                  InstanceMethod("totals", &Self::totals),
                                  InstanceMethod("statistics", &Self::statistics),
                                  InstanceMethod("openWalk", &Self::openWalk),
                                  InstanceMethod("walk", &Self::walk),
                                  InstanceMethod("restoreOffenders", &Self::restoreOffenders),
                                  InstanceMethod("changeSecret", &Self::changeSecret),
                                  InstanceMethod("putDigests", &Self::putDigests),
                                  InstanceMethod("saveSingle", &Self::saveSingle),
                                  InstanceMethod("restoreSingle", &Self::restoreSingle),
                                  InstanceMethod("clear", &Self::clear),
                              },
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
  explicit RuleLimiterObject(const Napi::CallbackInfo& info)
      : CoreObject(info, info[1]), id_(newId()) {
    if (!info.Env().IsExceptionPending()) start(info);
  }

  double now() noexcept { return clock_.now(); }

 private:
  struct WalkHandle : Handle {
    static constexpr HandleKind kKind = HandleKind::kWalk;

    WalkHandle(uint64_t limiterId, unsigned index) noexcept
        : Handle{kKind, limiterId}, scope(index) {}

    const unsigned scope;
    SnapshotWalk<ScopeState> steps;
  };

  using ScopeCall = Call<Self, kMaxScopes>;
  using Operation = RuleAnswer (RuleLimiter::*)(const ScopeKey*, uint32_t, unsigned, double,
                                                RuleNumbers&);

  struct CallNumbers;

  void start(const Napi::CallbackInfo& info);

  // Whether the scopes and the program of a raw call exist; if not, an exception is pending.
  bool accepts(napi_env env, const CallArguments& numbers) noexcept {
    const RulePlan& plan = core().plan();
    const bool isValid = static_cast<uint32_t>(numbers.mask) >> plan.scopes == 0 &&
                         static_cast<uint32_t>(numbers.program) < plan.programs();
    if (!isValid)
      napi_throw_type_error(env, "ERR_LIMITER_KEY", "no scope or program has this number");
    return isValid;
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

  Clock clock_;
  const uint64_t id_;
  RuleBuffers buffers_;
};

}  // namespace relay_limiter
