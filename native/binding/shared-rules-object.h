// SharedRulesObject: a limiter of rules in a shared file as a JavaScript object. It has the calls
// of RulesCore in lib/engine/rules.ts and those of SharedRulesCore there. shared-rules-methods.h
// has its methods.
#pragma once

#include <napi.h>

#include <type_traits>

#include "../shared/rule-snapshot.h"
#include "rule-object.h"
#include "rule-report.h"
#include "shared-report.h"

namespace relay_limiter {

// What CoreObject needs of a limiter: its end leaves the file.
struct SharedRulesCoreOf {
  void clear() noexcept { rules.detach(); }
  static size_t memoryBytes() noexcept { return 0; }

  SharedRules rules;
};

class SharedRulesObject : public RuleObject<SharedRulesObject, SharedRulesCoreOf, SharedRuleScope> {
 public:
  using Self = SharedRulesObject;
  using Core = SharedRules::Core;
  using Scope = SharedRules::Scope;
  using ScopeKey = SharedRules::ScopeKey;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    return CoreObject::define(env, "SharedRuleLimiter", registry,
                              withMethods({
                                  InstanceMethod("publish", &Self::publish),
                                  InstanceMethod("readConfig", &Self::readConfig),
                                  InstanceMethod("adoptPlan", &Self::adoptPlan),
                                  InstanceMethod("isCurrent", &Self::isCurrent),
                                  InstanceMethod("takeOutdated", &Self::takeOutdated),
                                  InstanceMethod("countListed", &Self::countListed),
                                  InstanceMethod("sharedState", &Self::sharedState),
                                  InstanceMethod("detach", &Self::detach),
                              }),
                              {
                                  {"check", callByKeys<&Core::check, false>},
                                  {"checkAndOpen", callByKeys<&Core::check, true>},
                                  {"checkPeer", checkPeer},
                                  {"refund", callByKeys<&Core::refund, false>},
                                  {"charge", callByKeys<&Core::charge, false>},
                                  {"look", callByKeys<&Core::look, false>},
                                  {"open", open},
                              });
  }

  // `new SharedRuleLimiter(config, secret, RULE_NUMBERS, RULE_SLOTS)`: joins the file at
  // `config.shared.path`, or creates it.
  explicit SharedRulesObject(const Napi::CallbackInfo& info) : RuleObject(info) {
    if (!info.Env().IsExceptionPending()) start(info);
  }

 private:
  friend RuleObject;

  using ScopeCall = Call<Self, kMaxScopes>;
  using Operation = RuleAnswer (Core::*)(const ScopeKey*, uint32_t, unsigned, double, RuleNumbers&);

  // The numbers of a raw call.
  struct CallNumbers {
    template <class AnyCall>
    CallNumbers(const SharedRules& rules, const AnyCall& call) noexcept
        : mask(static_cast<uint32_t>(call.numbers->mask)),
          program(static_cast<unsigned>(call.numbers->program)),
          now(call.now()),
          keyed(rules.keyedScopes(mask, program, now)),
          singles(rules.askedSingles(mask, program)) {}

    const uint32_t mask;
    const unsigned program;
    const double now;
    // The scopes whose keys the call needs, and the single scopes that it asks.
    const uint32_t keyed;
    const uint32_t singles;
  };

  SharedRules& rules() noexcept { return core().rules; }

  void start(const Napi::CallbackInfo& info);

  // Whether the limiter has not left the file; if it has, throws.
  bool requireAttached(napi_env env) noexcept {
    if (rules().region().isAttached()) return true;
    napi_throw_error(env, "ERR_LIMITER_SHARED", "the limiter has left its shared file");
    return false;
  }

  void throwStalled(napi_env env) noexcept {
    throwLocked(env, rules().region(), rules().stalledBy());
  }

  // Whether a call has been done. If not, it is noted, or an exception is pending.
  bool isDone(napi_env env, Entered entered) noexcept {
    if (entered == Entered::kOutdated) isOutdated_ = true;
    if (entered == Entered::kStalled) throwStalled(env);
    return entered == Entered::kYes;
  }

  // Whether a raw call can be done; if not, an exception is pending.
  bool accepts(napi_env env, const CallArguments& numbers) noexcept {
    return requireAttached(env) && areIn(rules().plan(), env, numbers);
  }

  static napi_value answerOf(napi_env env, RuleAnswer answer) noexcept {
    napi_value result = nullptr;
    if (answer == RuleAnswer::kNoMemory) {
      throwNoMemory(env);
    } else if (answer != RuleAnswer::kAllowed) {
      napi_create_uint32(env, static_cast<uint32_t>(answer), &result);
    }
    return result;
  }

  // The answer of a check: a stalled shard refuses for a moment.
  napi_value checkAnswerOf(napi_env env, RuleAnswer answer) noexcept {
    if (answer != RuleAnswer::kStalled) return answerOf(env, answer);
    buffers_.numbers().set(kStalledDelay, -1, static_cast<int>(rules().stalledScope()));
    return answerOf(env, RuleAnswer::kNoRoom);
  }

  // The answer of another raw call.
  napi_value otherAnswerOf(napi_env env, RuleAnswer answer) noexcept {
    if (answer == RuleAnswer::kOutdated) isOutdated_ = true;
    if (answer != RuleAnswer::kStalled) return answerOf(env, answer);
    throwStalled(env);
    return nullptr;
  }

  // Reads the texts of the keys of `keyed`, and hashes them. `kOpens`: with the peer's slots.
  template <bool kOpens>
  bool readKeys(napi_env env, const napi_value* arguments, uint32_t keyed, KeyTexts& texts,
                ScopeKey* keys) noexcept;

  template <Operation kOperation, bool kOpens>
  static napi_value callByKeys(napi_env env, napi_callback_info info) noexcept;
  static napi_value checkPeer(napi_env env, napi_callback_info info) noexcept;
  static napi_value open(napi_env env, napi_callback_info info) noexcept;

  double nowIn(const Napi::CallbackInfo& info, size_t index) {
    return info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue() : now();
  }
  // Whether the first argument is a scope with records, or a single one, and the limiter is
  // attached; if not, an exception is pending.
  bool readScope(const Napi::CallbackInfo& info, bool isSingle, unsigned& scope);
  // Calls use(scope, key, time) for the scope and the key in the first two arguments. Whether it
  // has been called; if not, it is noted, or an exception is pending.
  template <class Use>
  bool withPeer(const Napi::CallbackInfo& info, Needs needs, double now, Use&& use);
  bool readBans(const Napi::CallbackInfo& info, double now, BanList& bans, size_t& count);

  Napi::Value publish(const Napi::CallbackInfo& info);
  Napi::Value readConfig(const Napi::CallbackInfo& info);
  Napi::Value adoptPlan(const Napi::CallbackInfo& info);
  Napi::Value isCurrent(const Napi::CallbackInfo& info);
  Napi::Value takeOutdated(const Napi::CallbackInfo& info);
  Napi::Value countListed(const Napi::CallbackInfo& info);
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
  Napi::Value sharedState(const Napi::CallbackInfo& info);
  void detach(const Napi::CallbackInfo& info);

  // Whether a call has not been done because the rules have changed.
  bool isOutdated_ = false;
};

template <bool kOpens>
bool SharedRulesObject::readKeys(napi_env env, const napi_value* arguments, uint32_t keyed,
                                 KeyTexts& texts, ScopeKey* keys) noexcept {
  for (uint32_t left = keyed; left != 0; left &= left - 1) {
    if (!texts.add().read(env, arguments[lowestBit(left)])) return false;
  }
  const KeyText* text = texts.begin();
  for (uint32_t left = keyed; left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    PeerSlot* const slot = kOpens ? &buffers_.slots()[i] : nullptr;
    keys[i] = {(text++)->key(rules().secret()), nullptr, slot};
    rules().prepare(keys[i].key.fingerprint);
  }
  return true;
}

// check(...keys), refund(...keys), charge(...keys), look(...keys). Only a check can refuse a peer
// whose shard is stalled.
template <SharedRulesObject::Operation kOperation, bool kOpens>
napi_value SharedRulesObject::callByKeys(napi_env env, napi_callback_info info) noexcept {
  // Compared as types, since with sanitizers GCC takes no comparison of pointers for a constant.
  constexpr bool kIsCheck = std::is_same_v<std::integral_constant<Operation, kOperation>,
                                           std::integral_constant<Operation, &Core::check>>;
  const ScopeCall call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  const CallNumbers numbers(self.rules(), call);
  KeyTexts texts;
  ScopeKey keys[kMaxScopes];
  if (!self.readKeys<kOpens>(env, call.arguments, numbers.keyed, texts, keys)) return nullptr;
  const RuleAnswer answer = self.rules().callByKeys(
      keys, numbers.keyed, numbers.singles, numbers.now,
      kIsCheck ? Patience::kShort : Patience::kLong,
      [&](Core& core, const ScopeKey* found, uint32_t scopes, double time) {
        return (core.*kOperation)(found, scopes, numbers.program, time, self.buffers_.numbers());
      });
  if (answer == RuleAnswer::kAllowed) return nullptr;
  return kIsCheck ? self.checkAnswerOf(env, answer) : self.otherAnswerOf(env, answer);
}

// checkPeer(): JavaScript has written the slots of the peer. Returns kNeedsKeysAnswer, and changes
// nothing, if one of them is out of date.
inline napi_value SharedRulesObject::checkPeer(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  const CallNumbers numbers(self.rules(), call);
  const RuleAnswer answer =
      self.rules().checkAt(self.buffers_.slots(), numbers.keyed, numbers.singles, numbers.program,
                           numbers.now, self.buffers_.numbers());
  if (answer == RuleAnswer::kAllowed) return nullptr;
  return self.checkAnswerOf(env, answer);
}

// open(...keys): writes the slots of the scopes in the mask. The first check finds the records.
inline napi_value SharedRulesObject::open(napi_env env, napi_callback_info info) noexcept {
  const ScopeCall call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  const uint32_t keyed = static_cast<uint32_t>(call.numbers->mask) & ~self.rules().singleScopes();
  KeyTexts texts;
  ScopeKey keys[kMaxScopes];
  if (!self.readKeys<false>(env, call.arguments, keyed, texts, keys)) return nullptr;
  for (uint32_t left = keyed; left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    self.buffers_.slots()[i] = PeerSlot::of(keys[i].key.fingerprint);
  }
  return nullptr;
}

}  // namespace relay_limiter
