// The methods of RuleLimiterObject, which are called rarely.
#pragma once

#include "rule-limiter-object.h"
#include "rule-report.h"

namespace relay_limiter {

inline void RuleLimiterObject::start(const Napi::CallbackInfo& info) {
  RulesConfigReader config;
  if (!buffers_.open(info) || !config.read(info)) return;
  RulePlanReader reader(config.plan, config.scopes, 0);
  if (!reader.read()) return;
  if (core().start(std::move(reader.plan), config.singleScopes, config.maxPeers)) {
    core().setDigestKey(secret());
  } else {
    throwNoMemory(info.Env());
  }
}

inline ScopeState* RuleLimiterObject::scopeIn(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsNumber()) {
    const uint32_t i = info[index].As<Napi::Number>().Uint32Value();
    if (i < core().plan().scopes && !core().isSingle(i)) return &core().scope(i);
  }
  Napi::TypeError::New(info.Env(), "no scope with records has this number")
      .ThrowAsJavaScriptException();
  return nullptr;
}

inline unsigned RuleLimiterObject::singleScopeIn(const Napi::CallbackInfo& info) {
  const uint32_t i = info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : kMaxScopes;
  if (i < core().plan().scopes && core().isSingle(i)) return i;
  Napi::TypeError::New(info.Env(), "no single scope has this number").ThrowAsJavaScriptException();
  return kMaxScopes;
}

inline ScopeState* RuleLimiterObject::scopeAndKeyIn(const Napi::CallbackInfo& info, KeyText& text) {
  ScopeState* scope = scopeIn(info, 0);
  return scope != nullptr && text.read(info.Env(), info[1]) ? scope : nullptr;
}

// update(plan, now)
inline void RuleLimiterObject::update(const Napi::CallbackInfo& info) {
  RulePlanReader reader(info[0], core().plan().scopes, core().plan().plans);
  if (!reader.read()) return;
  if (!core().update(std::move(reader.plan), reader.origins, reader.added, timeIn(info, 1))) {
    throwNoMemory(info.Env());
  }
}

// peek(keys, mask, program, now): { answer, used }
inline Napi::Value RuleLimiterObject::peek(const Napi::CallbackInfo& info) {
  const CallArguments numbers = peekArgumentsOf(info);
  if (!accepts(info.Env(), numbers)) return info.Env().Undefined();
  const auto mask = static_cast<uint32_t>(numbers.mask);
  const auto ask = [&](const ScopeKey* keys, double* used) {
    return core().peek(keys, mask, static_cast<unsigned>(numbers.program), timeIn(info, 3),
                       buffers_.numbers(), used);
  };
  return peekBy(info, secret(), mask & ~core().singleScopes(), core().plan().scopes, ask);
}

// ban(scope, key, seconds, now)
inline Napi::Value RuleLimiterObject::ban(const Napi::CallbackInfo& info) {
  KeyText text;
  ScopeState* scope = scopeAndKeyIn(info, text);
  if (scope == nullptr) return info.Env().Undefined();
  const double now = timeIn(info, 3);
  const double end = now + info[2].As<Napi::Number>().DoubleValue();
  const Verdict verdict = scope->ban(text.key(secret()), end, now);
  reportExternalMemory(info.Env());
  if (verdict == Verdict::kNoMemory) throwNoMemory(info.Env());
  return Napi::Boolean::New(info.Env(), verdict == Verdict::kAllowed);
}

// unban(scope, key, now)
inline Napi::Value RuleLimiterObject::unban(const Napi::CallbackInfo& info) {
  KeyText text;
  ScopeState* scope = scopeAndKeyIn(info, text);
  if (scope == nullptr) return info.Env().Undefined();
  const bool wasBanned = scope->offenders().endBan(text.key(secret()).fingerprint, timeIn(info, 2));
  return Napi::Boolean::New(info.Env(), wasBanned);
}

// banSecondsLeft(scope, key, now)
inline Napi::Value RuleLimiterObject::banSecondsLeft(const Napi::CallbackInfo& info) {
  KeyText text;
  ScopeState* scope = scopeAndKeyIn(info, text);
  if (scope == nullptr) return info.Env().Undefined();
  const Fingerprint fingerprint = text.key(secret()).fingerprint;
  return Napi::Number::New(info.Env(),
                           scope->offenders().banSecondsLeft(fingerprint, timeIn(info, 2)));
}

// longestBans(scope, most, now): { count, bans }
inline Napi::Value RuleLimiterObject::longestBans(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ScopeState* scope = scopeIn(info, 0);
  if (scope == nullptr) return env.Undefined();
  Napi::Array bans = Napi::Array::New(env);
  const auto use = [&](const StoredKey& key, double seconds) {
    const Napi::HandleScope handles(env);
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, key));
    pair.Set(1u, seconds);
    bans.Set(bans.Length(), pair);
  };
  size_t count = 0;
  const double most = info[1].As<Napi::Number>().DoubleValue();
  if (!scope->offenders().longestBans(most, timeIn(info, 2), count, use)) throwNoMemory(env);
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", static_cast<double>(count));
  result.Set("bans", bans);
  return result;
}

// violations(scope, key)
inline Napi::Value RuleLimiterObject::violations(const Napi::CallbackInfo& info) {
  KeyText text;
  ScopeState* scope = scopeAndKeyIn(info, text);
  if (scope == nullptr) return info.Env().Undefined();
  const uint64_t count = scope->offenders().table().violations(text.key(secret()).fingerprint);
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

// removePeer(scope, key)
inline void RuleLimiterObject::removePeer(const Napi::CallbackInfo& info) {
  KeyText text;
  ScopeState* scope = scopeAndKeyIn(info, text);
  if (scope != nullptr) scope->removePeer(text.key(secret()));
  reportExternalMemory(info.Env());
}

// cleanup(maxIdle, budgetMs, now)
inline Napi::Value RuleLimiterObject::cleanup(const Napi::CallbackInfo& info) {
  const double maxIdle = info[0].As<Napi::Number>().DoubleValue();
  const double budgetMs = info[1].As<Napi::Number>().DoubleValue();
  const uint64_t removed = core().cleanup(maxIdle, budgetMs, timeIn(info, 2));
  reportExternalMemory(info.Env());
  return Napi::Number::New(info.Env(), static_cast<double>(removed));
}

inline Napi::Value RuleLimiterObject::isCleaning(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core().isCleaning());
}

inline Napi::Value RuleLimiterObject::totals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  RuleCounts counts[kMaxScopes];
  for (unsigned i = 0; i < core().plan().scopes; ++i) counts[i] = core().counts(i);
  return totalsOf(env, core().outcomes(), counts, core().plan().scopes);
}

// statistics(scope)
inline Napi::Value RuleLimiterObject::statistics(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ScopeState* scope = scopeIn(info, 0);
  if (scope == nullptr) return env.Undefined();
  OffenderTable& offenders = scope->offenders().table();
  return statisticsOf(env, scope->records().size(), offenders.totalViolations(),
                      offenders.unnamed(), topViolatorsOf(env, offenders), scope->counters(),
                      scope->memoryBytes());
}

// openWalk(scope): a handle for walk, which returns a snapshot in steps.
inline Napi::Value RuleLimiterObject::openWalk(const Napi::CallbackInfo& info) {
  if (scopeIn(info, 0) == nullptr) return info.Env().Undefined();
  const uint32_t scope = info[0].As<Napi::Number>().Uint32Value();
  return wrapHandle(info.Env(), new (std::nothrow) WalkHandle(id_, scope));
}

// walk(handle, most, now): the columns of the next step, of about `most` peers.
inline Napi::Value RuleLimiterObject::walk(const Napi::CallbackInfo& info) {
  auto* walk = unwrapHandle<WalkHandle>(info.Env(), info[0], id_);
  if (walk == nullptr) return info.Env().Undefined();
  ScopeState& scope = core().scope(walk->scope);
  const auto most = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  const double now = timeIn(info, 2);
  SnapshotColumns columns(info.Env(), secret());
  const auto useOffender = [&](const Offender& offender) {
    columns.keys.push(offender.storedKey);
    addOffender(columns, scope.saved(offender, now));
  };
  const auto useDigest = [&](const Secret* other, const SavedRuleDigest& saved) {
    addDigest(columns, other, saved);
  };
  if (!walk->steps.step(scope, now, most, useOffender, useDigest)) columns.hasMemory = false;
  return columns.toObject(walk->steps.isOver());
}

// restoreOffenders(scope, keys, numbers, now): returns how many were restored.
inline Napi::Value RuleLimiterObject::restoreOffenders(const Napi::CallbackInfo& info) {
  ScopeState* scope = scopeIn(info, 0);
  if (scope == nullptr) return info.Env().Undefined();
  const double now = timeIn(info, 3);
  // As LimiterObject::restoreOffenders.
  unsigned most = kMostLookedAt;
  const auto put = [&](const Key& key, const double* numbers) {
    SavedRuleOffender saved{numbers[0], numbers[1], numbers[2], numbers[3],
                            numbers[4], numbers[5], {}};
    std::copy_n(numbers + 6, kMaxRules, saved.used);
    const Verdict verdict = scope->restore(key, saved, now, most);
    if (verdict == Verdict::kNoRoom) most = kSample;
    return verdict;
  };
  const uint32_t count = restoreOffendersFrom<kRuleOffenderNumbers>(info.Env(), *scope, secret(),
                                                                    info[1], info[2], put);
  reportExternalMemory(info.Env());
  return Napi::Number::New(info.Env(), count);
}

// changeSecret(secret): replaces the secret of an empty limiter, and returns whether it has. It
// comes in 32-bit words.
inline Napi::Value RuleLimiterObject::changeSecret(const Napi::CallbackInfo& info) {
  const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
  const Secret other{joinHalves(words), joinHalves(words + 2)};
  const bool changes = core().isEmpty() && !(other == secret());
  if (changes) setSecret(other);
  return Napi::Boolean::New(info.Env(), changes);
}

// putDigests(scope, secret, digests, numbers, now): `secret` and `digests` come in 32-bit words.
// Returns how many were restored.
inline Napi::Value RuleLimiterObject::putDigests(const Napi::CallbackInfo& info) {
  ScopeState* scope = scopeIn(info, 0);
  if (scope == nullptr) return info.Env().Undefined();
  const uint32_t* words = info[1].As<Napi::Uint32Array>().Data();
  const Secret other{joinHalves(words), joinHalves(words + 2)};
  const double now = timeIn(info, 4);
  const bool isOwn = other == secret();
  const uint32_t count = restoreDigestsFrom<kRuleDigestNumbers>(
      info.Env(), info[2], info[3],
      [&](const Fingerprint& digest) { scope->pending().prepare(other, digest); },
      [&](const Fingerprint& digest, const double* numbers) {
        SavedRuleDigest saved{digest, numbers[0], {}};
        std::copy_n(numbers + 1, kMaxRules, saved.used);
        return scope->restoreDigest(other, isOwn, saved, now);
      });
  reportExternalMemory(info.Env());
  return Napi::Number::New(info.Env(), count);
}

// saveSingle(scope, now): an array of kRuleDigestNumbers.
inline Napi::Value RuleLimiterObject::saveSingle(const Napi::CallbackInfo& info) {
  const unsigned scope = singleScopeIn(info);
  if (scope == kMaxScopes) return info.Env().Undefined();
  Napi::Float64Array numbers = Napi::Float64Array::New(info.Env(), kRuleDigestNumbers);
  if (numbers.IsEmpty()) return info.Env().Undefined();
  core().saveSingle(scope, timeIn(info, 1), numbers.Data());
  return numbers;
}

// restoreSingle(scope, numbers, now): `numbers` as of saveSingle().
inline void RuleLimiterObject::restoreSingle(const Napi::CallbackInfo& info) {
  const unsigned scope = singleScopeIn(info);
  if (scope == kMaxScopes) return;
  const auto numbers = info[1].As<Napi::Float64Array>();
  if (numbers.ElementLength() == kRuleDigestNumbers)
    core().restoreSingle(scope, numbers.Data(), timeIn(info, 2));
}

inline void RuleLimiterObject::clear(const Napi::CallbackInfo& info) {
  core().clear();
  reportExternalMemory(info.Env());
}

}  // namespace relay_limiter
