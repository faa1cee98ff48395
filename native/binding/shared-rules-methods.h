// The methods of SharedRulesObject, which are called rarely. One that has not been done because the
// rules have changed notes it for takeOutdated(), and its result says nothing. What is by slots
// needs the current rules.
#pragma once

#include "shared-rules-object.h"

namespace relay_limiter {

inline void SharedRulesObject::start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  RulesConfigReader config;
  if (!buffers_.open(info) || !config.read(info)) return;
  RulePlanReader reader(config.plan, config.scopes, 0);
  if (!reader.read()) return;
  const Napi::Value shared = config.object.Get("shared");
  const Napi::Object file = shared.IsObject() ? shared.As<Napi::Object>() : Napi::Object::New(env);
  const Utf8Text path(file.Get("path"));
  const Utf8Text scopes(file.Get("scopes"));
  const Utf8Text text(file.Get("text"));
  SharedError error;
  const SharedRulesConfig own = {config.singleScopes, config.maxPeers, scopes.text(),
                                 scopes.length(),     text.text(),     text.length()};
  if (!rules().attach(path.text(), secret(), std::move(reader.plan), own, error)) {
    throwShared(env, error);
  }
}

// publish(plan, text, now): whether the rules are those of all processes now.
inline Napi::Value SharedRulesObject::publish(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!requireAttached(env)) return env.Undefined();
  RulePlanReader reader(info[0], rules().plan().scopes, rules().plan().plans);
  if (!reader.read()) return env.Undefined();
  const Utf8Text text(info[1]);
  SharedError error;
  const Entered entered = rules().publish(std::move(reader.plan), reader.origins, reader.added,
                                          {text.text(), text.length()}, nowIn(info, 2), error);
  if (error) throwShared(env, error);
  return Napi::Boolean::New(env, isDone(env, entered) && !error);
}

// readConfig(text): { text, isFounding, rooms }. `isFounding`: whether the argument is the text
// with which the file was created. `rooms`: for each scope the number of rules that its records
// have room for.
inline Napi::Value SharedRulesObject::readConfig(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!requireAttached(env)) return env.Undefined();
  SharedError error;
  if (!rules().readConfig(error)) {
    throwShared(env, error);
    return env.Undefined();
  }
  const Utf8Text own(info[0]);
  const RuleConfig& config = rules().config();
  Napi::Object result = Napi::Object::New(env);
  napi_value text = nullptr;
  if (napi_create_string_utf8(env, config.text(), config.textBytes(), &text) != napi_ok) {
    throwNoMemory(env);
    return env.Undefined();
  }
  result.Set("text", text);
  result.Set("isFounding", rules().isFounding(own.text(), own.length()));
  Napi::Array rooms = Napi::Array::New(env);
  for (uint32_t i = 0; i < rules().plan().scopes; ++i) rooms.Set(i, rules().roomOf(i));
  result.Set("rooms", rooms);
  return result;
}

// adoptPlan(plan): decides by the plan made from the last readConfig(). False if the plan does not
// belong to the file.
inline Napi::Value SharedRulesObject::adoptPlan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!requireAttached(env)) return env.Undefined();
  RulePlanReader reader(info[0], rules().plan().scopes, 0);
  if (!reader.read()) return env.Undefined();
  return Napi::Boolean::New(env, rules().adopt(std::move(reader.plan)));
}

inline Napi::Value SharedRulesObject::isCurrent(const Napi::CallbackInfo& info) {
  if (!requireAttached(info.Env())) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), rules().isCurrent());
}

inline Napi::Value SharedRulesObject::takeOutdated(const Napi::CallbackInfo& info) {
  const bool isOutdated = isOutdated_;
  isOutdated_ = false;
  return Napi::Boolean::New(info.Env(), isOutdated);
}

// countListed(isAllowed): counts a check that a list has decided. False if the lists have changed.
inline Napi::Value SharedRulesObject::countListed(const Napi::CallbackInfo& info) {
  if (!requireAttached(info.Env())) return info.Env().Undefined();
  const bool counts = rules().isCurrent();
  std::atomic<uint64_t>* const listed = rules().region().header().listed;
  if (counts) listed[info[0].ToBoolean() ? 0 : 1].fetch_add(1, std::memory_order_relaxed);
  return Napi::Boolean::New(info.Env(), counts);
}

inline bool SharedRulesObject::readScope(const Napi::CallbackInfo& info, bool isSingle,
                                         unsigned& scope) {
  if (!requireAttached(info.Env())) return false;
  scope = info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : kMaxScopes;
  if (scope < rules().plan().scopes && rules().isSingle(scope) == isSingle) return true;
  Napi::TypeError::New(info.Env(), isSingle ? "no single scope has this number"
                                            : "no scope with records has this number")
      .ThrowAsJavaScriptException();
  return false;
}

template <class Use>
bool SharedRulesObject::withPeer(const Napi::CallbackInfo& info, Needs needs, double now,
                                 Use&& use) {
  unsigned scope = 0;
  KeyText text;
  if (!readScope(info, false, scope) || !text.read(info.Env(), info[1])) return false;
  return isDone(info.Env(), rules().withPeer(needs, scope, text.key(rules().secret()), now, use));
}

// peek(keys, mask, program, now): { answer, used }
inline Napi::Value SharedRulesObject::peek(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CallArguments numbers = peekArgumentsOf(info);
  if (!accepts(env, numbers)) return env.Undefined();
  const auto mask = static_cast<uint32_t>(numbers.mask);
  const uint32_t singles = mask & rules().singleScopes();
  const auto ask = [&](ScopeKey* keys, double* used) {
    const RuleAnswer answer =
        rules().callByKeys(keys, mask & ~singles, singles, nowIn(info, 3), Patience::kLong,
                           [&](Core& core, const ScopeKey* found, uint32_t scopes, double time) {
                             return core.peek(found, scopes, static_cast<unsigned>(numbers.program),
                                              time, buffers_.numbers(), used);
                           });
    if (answer == RuleAnswer::kStalled) throwStalled(env);
    if (answer == RuleAnswer::kOutdated) isOutdated_ = true;
    return answer;
  };
  return peekBy(info, rules().secret(), mask & ~singles, rules().plan().scopes, ask);
}

// ban(scope, key, seconds, now)
inline Napi::Value SharedRulesObject::ban(const Napi::CallbackInfo& info) {
  const double seconds = info[2].As<Napi::Number>().DoubleValue();
  Verdict verdict = Verdict::kNoRoom;
  withPeer(info, Needs::kCurrentRules, nowIn(info, 3),
           [&](Scope& scope, const Key& key, double time) {
             verdict = scope.ban(key, time + seconds, time);
           });
  if (verdict == Verdict::kNoMemory) throwNoMemory(info.Env());
  return Napi::Boolean::New(info.Env(), verdict == Verdict::kAllowed);
}

// unban(scope, key, now)
inline Napi::Value SharedRulesObject::unban(const Napi::CallbackInfo& info) {
  bool wasBanned = false;
  withPeer(info, Needs::kAnyRules, nowIn(info, 2), [&](Scope& scope, const Key& key, double time) {
    wasBanned = scope.offenders().endBan(key.fingerprint, time);
  });
  return Napi::Boolean::New(info.Env(), wasBanned);
}

// banSecondsLeft(scope, key, now)
inline Napi::Value SharedRulesObject::banSecondsLeft(const Napi::CallbackInfo& info) {
  double seconds = 0;
  withPeer(info, Needs::kAnyRules, nowIn(info, 2), [&](Scope& scope, const Key& key, double time) {
    seconds = scope.offenders().banSecondsLeft(key.fingerprint, time);
  });
  return Napi::Number::New(info.Env(), seconds);
}

// violations(scope, key)
inline Napi::Value SharedRulesObject::violations(const Napi::CallbackInfo& info) {
  uint64_t count = 0;
  withPeer(info, Needs::kAnyRules, 0, [&](Scope& scope, const Key& key, double) {
    count = scope.offenders().table().violations(key.fingerprint);
  });
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

// removePeer(scope, key)
inline void SharedRulesObject::removePeer(const Napi::CallbackInfo& info) {
  withPeer(info, Needs::kAnyRules, 0,
           [](Scope& scope, const Key& key, double) { scope.removePeer(key); });
}

// longestBans(scope, most, now): { count, bans }
inline Napi::Value SharedRulesObject::longestBans(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  unsigned index = 0;
  if (!readScope(info, false, index)) return env.Undefined();
  BanList list;
  size_t count = 0;
  SharedRuleScope scope(rules(), index);
  if (!scope.readBans(list, count, nowIn(info, 2))) throwNoMemory(env);
  if (env.IsExceptionPending() || !isDone(env, scope.entered())) return env.Undefined();
  const double most = info[1].As<Napi::Number>().DoubleValue();
  list.keepFirst(most < static_cast<double>(list.size()) ? static_cast<size_t>(most) : list.size(),
                 [](const BanList::Entry& a, const BanList::Entry& b) {
                   if (a.began != b.began) return a.began > b.began;
                   return a.key.key() < b.key.key();
                 });
  return bansInForceOf(env, list, count);
}

// cleanup(maxIdle, budgetMs, now)
inline Napi::Value SharedRulesObject::cleanup(const Napi::CallbackInfo& info) {
  if (!requireAttached(info.Env())) return info.Env().Undefined();
  const double maxIdle = info[0].As<Napi::Number>().DoubleValue();
  const double budgetMs = info[1].As<Napi::Number>().DoubleValue();
  const uint64_t removed = rules().cleanup(maxIdle, budgetMs, nowIn(info, 2), isOutdated_);
  return Napi::Number::New(info.Env(), static_cast<double>(removed));
}

inline Napi::Value SharedRulesObject::isCleaning(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), rules().isCleaning());
}

inline Napi::Value SharedRulesObject::totals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!requireAttached(env)) return env.Undefined();
  const unsigned scopes = rules().plan().scopes;
  RuleOutcomes outcomes;
  RuleCounts counts[kMaxScopes];
  const Entered entered = rules().eachHead([&](const Core& core) {
    outcomes.add(core.outcomes());
    for (unsigned i = 0; i < scopes; ++i) counts[i].add(core.counts(i));
  });
  if (!isDone(env, entered)) return env.Undefined();
  Napi::Value result = totalsOf(env, outcomes, counts, scopes);
  const std::atomic<uint64_t>* const listed = rules().region().header().listed;
  result.As<Napi::Object>().Set("listedAllowed", static_cast<double>(listed[0].load()));
  result.As<Napi::Object>().Set("listedDenied", static_cast<double>(listed[1].load()));
  return result;
}

// statistics(scope)
inline Napi::Value SharedRulesObject::statistics(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  unsigned index = 0;
  if (!readScope(info, false, index)) return env.Undefined();
  SharedStatistics numbers;
  SharedRuleScope scope(rules(), index);
  scope.readStatistics(numbers);
  if (!isDone(env, scope.entered())) return env.Undefined();
  return statisticsOf(env, numbers.peers, numbers.violations.value(), numbers.unnamed,
                      topViolatorsOf(env, numbers.top), numbers.counters, rules().bytesOf(index));
}

// openWalk(scope): a handle for walk, which returns a snapshot in steps.
inline Napi::Value SharedRulesObject::openWalk(const Napi::CallbackInfo& info) {
  unsigned scope = 0;
  if (!readScope(info, false, scope)) return info.Env().Undefined();
  return wrapHandle(info.Env(), new (std::nothrow) WalkHandle(id_, scope));
}

// walk(handle, most, now): the columns of the next step, of about `most` peers. It ends before if
// the rules change; then the next one is not done.
inline Napi::Value SharedRulesObject::walk(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto* walk = unwrapHandle<WalkHandle>(env, info[0], id_);
  if (walk == nullptr || !requireAttached(env)) return env.Undefined();
  SharedRuleScope scope(rules(), walk->scope);
  const auto most = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  SnapshotColumns columns(env, rules().currentSecret());
  const auto useOffender = [&](const Offender& offender, const SavedRuleOffender& saved) {
    columns.keys.push(offender.storedKey);
    addOffender(columns, saved);
  };
  const auto useDigest = [&](const Secret* other, const SavedRuleDigest& saved) {
    addDigest(columns, other, saved);
  };
  if (!walk->steps.step(scope, nowIn(info, 2), most, useOffender, useDigest))
    columns.hasMemory = false;
  const bool isPartial = scope.entered() == Entered::kOutdated && !columns.isEmpty();
  if (!isPartial && !isDone(env, scope.entered())) return env.Undefined();
  return columns.toObject(walk->steps.isOver());
}

// restoreOffenders(scope, keys, numbers, now): returns how many were restored.
inline Napi::Value SharedRulesObject::restoreOffenders(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  unsigned index = 0;
  if (!readScope(info, false, index)) return env.Undefined();
  const double now = nowIn(info, 3);
  Entered worst = Entered::kYes;
  const auto put = [&](const Key& key, const double* numbers) {
    SavedRuleOffender saved{numbers[0], numbers[1], numbers[2], numbers[3],
                            numbers[4], numbers[5], {}};
    std::copy_n(numbers + 6, kMaxRules, saved.used);
    Verdict verdict = Verdict::kStalled;
    const Entered entered = rules().withPeer(
        Needs::kCurrentRules, index, key, now, [&](Scope& scope, const Key& found, double time) {
          verdict = scope.restore(found, saved, time, kMostLookedAt);
        });
    if (entered != Entered::kYes) worst = entered;
    return verdict;
  };
  const uint32_t count = restoreOffendersFrom<kRuleOffenderNumbers>(env, rules(), rules().secret(),
                                                                    info[1], info[2], put);
  if (!env.IsExceptionPending()) isDone(env, worst);
  return Napi::Number::New(env, count);
}

// changeSecret(secret): replaces the secret of an empty file. Always false: the limiter itself
// finds out that it has changed. It comes in 32-bit words.
inline Napi::Value SharedRulesObject::changeSecret(const Napi::CallbackInfo& info) {
  if (!requireAttached(info.Env())) return info.Env().Undefined();
  const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
  const Secret other{joinHalves(words), joinHalves(words + 2)};
  if (!rules().adoptSecret(other)) throwStalled(info.Env());
  return Napi::Boolean::New(info.Env(), false);
}

// putDigests(scope, secret, digests, numbers, now): restores peers that a snapshot names by digests
// under the secret of this file. Returns how many were restored.
inline Napi::Value SharedRulesObject::putDigests(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  unsigned index = 0;
  if (!readScope(info, false, index)) return env.Undefined();
  const uint32_t* words = info[1].As<Napi::Uint32Array>().Data();
  const Secret other{joinHalves(words), joinHalves(words + 2)};
  if (!(other == rules().currentSecret())) return Napi::Number::New(env, 0);
  const double now = nowIn(info, 4);
  Entered worst = Entered::kYes;
  const uint32_t count = restoreDigestsFrom<kRuleDigestNumbers>(
      env, info[2], info[3], [&](const Fingerprint& digest) { rules().prepare(digest); },
      [&](const Fingerprint& digest, const double* numbers) {
        SavedRuleDigest saved{digest, numbers[0], {}};
        std::copy_n(numbers + 1, kMaxRules, saved.used);
        Verdict verdict = Verdict::kStalled;
        const Entered entered = rules().withPeer(Needs::kCurrentRules, index, {digest, nullptr, 0},
                                                 now, [&](Scope& scope, const Key&, double time) {
                                                   verdict = scope.restorePeer(saved, time);
                                                 });
        if (entered != Entered::kYes) worst = entered;
        return verdict;
      });
  if (!env.IsExceptionPending()) isDone(env, worst);
  return Napi::Number::New(env, count);
}

// saveSingle(scope, now): an array of kRuleDigestNumbers.
inline Napi::Value SharedRulesObject::saveSingle(const Napi::CallbackInfo& info) {
  unsigned scope = 0;
  if (!readScope(info, true, scope)) return info.Env().Undefined();
  Napi::Float64Array numbers = Napi::Float64Array::New(info.Env(), kRuleDigestNumbers);
  if (numbers.IsEmpty()) return info.Env().Undefined();
  const Entered entered = rules().withSingles(
      Needs::kCurrentRules, nowIn(info, 1),
      [&](const Core& core, double time) { core.saveSingle(scope, time, numbers.Data()); });
  if (!isDone(info.Env(), entered)) return info.Env().Undefined();
  return numbers;
}

// restoreSingle(scope, numbers, now): `numbers` as of saveSingle().
inline void SharedRulesObject::restoreSingle(const Napi::CallbackInfo& info) {
  unsigned scope = 0;
  if (!readScope(info, true, scope)) return;
  const auto numbers = info[1].As<Napi::Float64Array>();
  if (numbers.ElementLength() != kRuleDigestNumbers) return;
  isDone(info.Env(),
         rules().withSingles(Needs::kCurrentRules, nowIn(info, 2), [&](Core& core, double time) {
           core.restoreSingle(scope, numbers.Data(), time);
         }));
}

inline void SharedRulesObject::clear(const Napi::CallbackInfo& info) {
  if (requireAttached(info.Env())) isDone(info.Env(), rules().clear());
}

inline Napi::Value SharedRulesObject::sharedState(const Napi::CallbackInfo& info) {
  if (!requireAttached(info.Env())) return info.Env().Undefined();
  return sharedStateOf(info.Env(), rules().region());
}

inline void SharedRulesObject::detach(const Napi::CallbackInfo&) { rules().detach(); }

}  // namespace relay_limiter
