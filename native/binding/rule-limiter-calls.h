// The raw functions of RuleLimiterObject. Each gets the keys by scope as its arguments; the scopes
// to ask, the program, the time and the number of the object are in CallArguments.
#pragma once

#include "rule-limiter-object.h"

namespace relay_limiter {

// The numbers of a raw call, after accepts().
struct RuleLimiterObject::CallNumbers {
  template <class AnyCall>
  CallNumbers(RuleLimiter& core, const AnyCall& call) noexcept
      : mask(static_cast<uint32_t>(call.numbers->mask)),
        program(static_cast<unsigned>(call.numbers->program)),
        now(core.time(call.now())),
        keyed(core.keyedScopes(mask, program, now)) {}

  const uint32_t mask;
  const unsigned program;
  const double now;
  // The scopes whose keys the call needs.
  const uint32_t keyed;
};

// Does not read the keys of scopes that are not asked. `kOpens`: writes the slots of the peer.
template <RuleLimiterObject::Operation kOperation, bool kOpens>
napi_value RuleLimiterObject::callByKeys(napi_env env, napi_callback_info info) noexcept {
  const ScopeCall call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  RuleLimiter& core = self.core();
  const CallNumbers numbers(core, call);
  // Reads all texts first: the processor hashes several at once if no call comes between.
  KeyTexts texts;
  for (uint32_t left = numbers.keyed; left != 0; left &= left - 1) {
    if (!texts.add().read(env, call.arguments[lowestBit(left)])) return nullptr;
  }
  ScopeKey keys[kMaxScopes];
  const KeyText* text = texts.begin();
  for (uint32_t left = numbers.keyed; left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    keys[i] = {(text++)->key(self.secret()), nullptr, kOpens ? &self.buffers_.slots()[i] : nullptr};
  }
  const RuleAnswer answer =
      (core.*kOperation)(keys, numbers.mask, numbers.program, numbers.now, self.buffers_.numbers());
  if (answer == RuleAnswer::kAllowed && !core.isResized()) return nullptr;
  return self.answerOf(env, answer);
}

// checkPeer(): JavaScript has written the slots of the peer. Returns kNeedsKeysAnswer, and changes
// nothing, if one of them is out of date.
inline napi_value RuleLimiterObject::checkPeer(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  RuleLimiter& core = self.core();
  const CallNumbers numbers(core, call);
  // The caches fetch all records at once.
  for (uint32_t left = numbers.keyed; left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    core.scope(i).records().prepareAt(self.buffers_.slots()[i].place);
  }
  ScopeKey keys[kMaxScopes];
  for (uint32_t left = numbers.keyed; left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    ScopeKey& key = keys[i];
    key = {{{0, 0}, nullptr, 0}, nullptr, nullptr};
    key.state = core.scope(i).records().at(self.buffers_.slots()[i], key.key.fingerprint);
    if (key.state == nullptr) return self.answerOf(env, RuleAnswer::kNeedsText);
  }
  const RuleAnswer answer =
      core.check(keys, numbers.mask, numbers.program, numbers.now, self.buffers_.numbers());
  if (answer == RuleAnswer::kAllowed && !core.isResized()) return nullptr;
  return self.answerOf(env, answer);
}

// open(...keys): writes the slots of the scopes in the mask.
inline napi_value RuleLimiterObject::open(napi_env env, napi_callback_info info) noexcept {
  const ScopeCall call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  const uint32_t keyed = static_cast<uint32_t>(call.numbers->mask) & ~self.core().singleScopes();
  for (uint32_t left = keyed; left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    KeyText text;
    if (!text.read(env, call.arguments[i])) return nullptr;
    const Fingerprint fingerprint = text.key(self.secret()).fingerprint;
    self.buffers_.slots()[i] = self.core().scope(i).records().slotOf(fingerprint);
  }
  return nullptr;
}

}  // namespace relay_limiter
