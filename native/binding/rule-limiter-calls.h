// The raw functions of RuleLimiterObject. Each gets the keys by scope as its arguments; the scopes
// to ask, the program, the time and the number of the object are in CallArguments.
#pragma once

#include "rule-limiter-object.h"

namespace relay_limiter {

// Does not read the keys of scopes that are not asked. Most calls need no text, so a text is kept
// only for its hash.
template <RuleLimiterObject::Operation kOperation>
napi_value RuleLimiterObject::callByKeys(napi_env env, napi_callback_info info) noexcept {
  const ScopeCall call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  RuleLimiter& core = self.core();
  const auto mask = static_cast<uint32_t>(call.numbers->mask);
  const auto program = static_cast<unsigned>(call.numbers->program);
  const double now = core.time(call.now());
  ScopeKey keys[kMaxScopes];
  for (uint32_t left = core.keyedScopes(mask, program, now); left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    KeyText text;
    if (!text.read(env, call.arguments[i])) return nullptr;
    keys[i] = {{text.key(self.secret()).fingerprint, nullptr, 0}, nullptr};
  }
  const RuleAnswer answer = (core.*kOperation)(keys, mask, program, now, *self.numbers_);
  if (answer == RuleAnswer::kAllowed && !core.isResized()) return nullptr;
  if (answer == RuleAnswer::kNeedsText) return self.callWithTexts<kOperation>(env, call, now);
  return self.answerOf(env, answer);
}

template <RuleLimiterObject::Operation kOperation>
napi_value RuleLimiterObject::callWithTexts(napi_env env, const ScopeCall& call,
                                            double now) noexcept {
  const auto mask = static_cast<uint32_t>(call.numbers->mask);
  const auto program = static_cast<unsigned>(call.numbers->program);
  Texts keyed;
  for (uint32_t left = core().keyedScopes(mask, program, now); left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    if (!keyed.texts[i].read(env, call.arguments[i])) return nullptr;
    keyed.keys[i] = {keyed.texts[i].key(secret()), nullptr};
  }
  return answerOf(env, (core().*kOperation)(keyed.keys, mask, program, now, *numbers_));
}

// checkPeer(): JavaScript has written the slots of the peer, which have the fingerprints of its
// keys.
inline napi_value RuleLimiterObject::checkPeer(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 1> call(env, info);
  if (call.object == nullptr || !call.object->accepts(env, *call.numbers)) return nullptr;
  auto& self = *call.object;
  RuleLimiter& core = self.core();
  const auto mask = static_cast<uint32_t>(call.numbers->mask);
  const auto program = static_cast<unsigned>(call.numbers->program);
  const double now = core.time(call.now());
  ScopeKey keys[kMaxScopes];
  for (uint32_t left = core.keyedScopes(mask, program, now); left != 0; left &= left - 1) {
    const unsigned i = lowestBit(left);
    int32_t* const words = self.slots_ + i * kSlotWords;
    const auto word = [words](unsigned at) { return uint64_t{static_cast<uint32_t>(words[at])}; };
    const Fingerprint fingerprint{word(1) | word(2) << 32, word(3) | word(4) << 32};
    // All zeros mark an empty slot of a table, so no key has this fingerprint.
    if ((fingerprint.low | fingerprint.high) == 0)
      return self.answerOf(env, RuleAnswer::kNeedsText);
    keys[i] = {{fingerprint, nullptr, 0}, &words[0]};
  }
  const RuleAnswer answer = core.check(keys, mask, program, now, *self.numbers_);
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
    int32_t* words = self.slots_ + i * kSlotWords;
    *words++ = self.core().scope(i).records().placeOf(fingerprint);
    for (const uint64_t half : {fingerprint.low, fingerprint.high}) {
      *words++ = static_cast<int32_t>(static_cast<uint32_t>(half));
      *words++ = static_cast<int32_t>(static_cast<uint32_t>(half >> 32));
    }
  }
  return nullptr;
}

}  // namespace relay_limiter
