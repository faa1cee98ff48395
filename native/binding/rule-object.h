// RuleObject: what the objects of rule limiters, private and shared ones, have in common.
#pragma once

#include <napi.h>

#include "../limiters/clock.h"
#include "../limiters/snapshot-walk.h"
#include "core-object.h"
#include "handle.h"
#include "rule-arguments.h"

namespace relay_limiter {

// `Self` has the methods of withMethods(). `Scope` is what a SnapshotWalk visits.
template <class Self, class Core, class Scope>
class RuleObject : public CoreObject<Self, Core> {
  using Base = CoreObject<Self, Core>;

 public:
  explicit RuleObject(const Napi::CallbackInfo& info) : Base(info, info[1]), id_(newId()) {}

  double now() noexcept { return clock_.now(); }

 protected:
  using typename Base::Methods;

  struct WalkHandle : Handle {
    static constexpr HandleKind kKind = HandleKind::kWalk;

    WalkHandle(uint64_t limiterId, unsigned index) noexcept
        : Handle{kKind, limiterId}, scope(index) {}

    const unsigned scope;
    SnapshotWalk<Scope> steps;
  };

  // The methods of both, and others.
  static Methods withMethods(Methods methods) {
    methods.insert(methods.end(),
                   {
                       Self::InstanceMethod("peek", &Self::peek),
                       Self::InstanceMethod("ban", &Self::ban),
                       Self::InstanceMethod("unban", &Self::unban),
                       Self::InstanceMethod("banSecondsLeft", &Self::banSecondsLeft),
                       Self::InstanceMethod("longestBans", &Self::longestBans),
                       Self::InstanceMethod("violations", &Self::violations),
                       Self::InstanceMethod("removePeer", &Self::removePeer),
                       Self::InstanceMethod("cleanup", &Self::cleanup),
                       Self::InstanceMethod("isCleaning", &Self::isCleaning),
                       Self::InstanceMethod("totals", &Self::totals),
                       Self::InstanceMethod("statistics", &Self::statistics),
                       Self::InstanceMethod("openWalk", &Self::openWalk),
                       Self::InstanceMethod("walk", &Self::walk),
                       Self::InstanceMethod("restoreOffenders", &Self::restoreOffenders),
                       Self::InstanceMethod("changeSecret", &Self::changeSecret),
                       Self::InstanceMethod("putDigests", &Self::putDigests),
                       Self::InstanceMethod("saveSingle", &Self::saveSingle),
                       Self::InstanceMethod("restoreSingle", &Self::restoreSingle),
                       Self::InstanceMethod("clear", &Self::clear),
                   });
    return methods;
  }

  // Whether the scopes and the program of a call exist; if not, an exception is pending.
  static bool areIn(const RulePlan& plan, napi_env env, const CallArguments& numbers) noexcept {
    const bool isValid = static_cast<uint32_t>(numbers.mask) >> plan.scopes == 0 &&
                         static_cast<uint32_t>(numbers.program) < plan.programs();
    if (!isValid)
      napi_throw_type_error(env, "ERR_LIMITER_KEY", "no scope or program has this number");
    return isValid;
  }

  // The mask and the program of peek(keys, mask, program, now).
  static CallArguments peekArgumentsOf(const Napi::CallbackInfo& info) {
    return {0, 0, 0, info[1].As<Napi::Number>().Int32Value(),
            info[2].As<Napi::Number>().Int32Value()};
  }

  // The result of peek: { answer, used }. Reads the keys of the scopes of `keyed` from the first
  // argument. ask(keys, used) returns the answer and writes the used tokens of `scopes` scopes, or
  // leaves an exception pending.
  template <class Ask>
  static Napi::Value peekBy(const Napi::CallbackInfo& info, const Secret& secret, uint32_t keyed,
                            unsigned scopes, Ask&& ask) {
    const Napi::Env env = info.Env();
    KeyTexts texts;
    typename Self::ScopeKey keys[kMaxScopes];
    for (uint32_t left = keyed; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      KeyText& text = texts.add();
      if (!readElement(env, info[0], i, text)) return env.Undefined();
      keys[i] = {text.key(secret), nullptr, nullptr};
    }
    Napi::Float64Array used = Napi::Float64Array::New(env, size_t{scopes} * kMaxRules);
    if (used.IsEmpty()) return env.Undefined();
    const RuleAnswer answer = ask(keys, used.Data());
    if (env.IsExceptionPending()) return env.Undefined();
    Napi::Object result = Napi::Object::New(env);
    const bool isAllowed = answer == RuleAnswer::kAllowed;
    result.Set("answer",
               isAllowed ? env.Undefined() : Napi::Number::New(env, static_cast<uint32_t>(answer)));
    result.Set("used", used);
    return result;
  }

  Clock clock_;
  const uint64_t id_;
  RuleBuffers buffers_;
};

}  // namespace relay_limiter
