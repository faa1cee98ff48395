// Statistics and snapshots of rules as JavaScript values.
#pragma once

#include <napi.h>

#include "../limiters/rules/limiter.h"
#include "report.h"

namespace relay_limiter {

// RuleTotals of lib/engine/rules.ts.
inline Napi::Value totalsOf(Napi::Env env, const RuleOutcomes& outcomes, const RuleCounts* counts,
                            unsigned scopes) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("allowed", static_cast<double>(outcomes.allowed));
  result.Set("delayed", static_cast<double>(outcomes.delayed));
  result.Set("banned", static_cast<double>(outcomes.banned));
  const auto set = [&](const char* name, const uint64_t* (*numbersOf)(const RuleCounts&),
                       unsigned length) {
    Napi::Float64Array array = Napi::Float64Array::New(env, size_t{scopes} * length);
    if (array.IsEmpty()) return;
    for (unsigned i = 0; i < scopes * length; ++i)
      array[i] = static_cast<double>(numbersOf(counts[i / length])[i % length]);
    result.Set(name, array);
  };
  const auto checked = [](const RuleCounts& of) -> const uint64_t* { return of.checked; };
  const auto refused = [](const RuleCounts& of) -> const uint64_t* { return of.refused; };
  const auto onDryRun = [](const RuleCounts& of) -> const uint64_t* { return of.dryRunRefused; };
  set("checked", checked, kMaxRules);
  set("refused", refused, kMaxRules);
  set("dryRunRefused", onDryRun, kMaxRules);
  const auto wereChecked = [](const RuleCounts& of) { return &of.replacedChecked; };
  const auto wereRefused = [](const RuleCounts& of) { return &of.replacedRefused; };
  set("replacedChecked", wereChecked, 1);
  set("replacedRefused", wereRefused, 1);
  return result;
}

// RuleScopeStatistics of lib/engine/rules.ts.
inline Napi::Object statisticsOf(Napi::Env env, size_t peers, uint64_t violations, size_t unnamed,
                                 const Napi::Array& topViolators, const Counters& counters,
                                 uint64_t memoryBytes) {
  Napi::Object result = Napi::Object::New(env);
  const auto set = [&](const char* name, auto number) {
    result.Set(name, static_cast<double>(number));
  };
  set("peers", peers);
  set("totalViolations", violations);
  set("unnamedOffenders", unnamed);
  result.Set("topViolators", topViolators);
  set("bansBegun", counters.bansBegun);
  set("evictions", counters.evictions);
  set("lossyEvictions", counters.lossyEvictions);
  set("refusedNewcomers", counters.refusedNewcomers);
  set("memoryBytes", memoryBytes);
  return result;
}

// The columns of an offender in a snapshot, but for its key.
inline void addOffender(SnapshotColumns& columns, const SavedRuleOffender& saved) {
  for (const double number : {saved.violations, saved.level, saved.banLevel, saved.banSecondsLeft,
                              saved.secondsSinceBan, saved.idleSeconds}) {
    columns.addNumber(number);
  }
  for (const double used : saved.used) columns.addNumber(used);
}

// `other` is the secret of the digest; nullptr for the limiter's own.
inline void addDigest(SnapshotColumns& columns, const Secret* other, const SavedRuleDigest& saved) {
  columns.addDigest(other, saved.digest);
  columns.addDigestNumber(saved.idleSeconds);
  for (const double used : saved.used) columns.addDigestNumber(used);
}

}  // namespace relay_limiter
