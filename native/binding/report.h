// What a limiter tells of its peers, as JavaScript values: statistics and snapshots, and how these
// come back. `Core` is a limiter.
#pragma once

#include <napi.h>

#include <cmath>

#include "../offenders.h"
#include "../records.h"
#include "../tally.h"
#include "arguments.h"

namespace relay_limiter {

// As a plain value: Set() would take a Napi::String through UTF-8, which has no lone surrogates.
inline napi_value stringOf(Napi::Env env, const char16_t* text, size_t length) {
  return Napi::String::New(env, text, length);
}

// Of Latin-1, which a Napi::String is not made of.
inline napi_value stringOf(Napi::Env env, const char* text, size_t length) {
  napi_value string = nullptr;
  if (napi_create_string_latin1(env, text, length, &string) != napi_ok) throwNoMemory(env);
  return string;
}

inline napi_value stringOf(Napi::Env env, const Name& name) {
  return name.read([env](const auto* text, size_t length) { return stringOf(env, text, length); });
}

// An array that grows by names.
class NameList {
 public:
  explicit NameList(Napi::Env env) : array(Napi::Array::New(env)) {}

  void push(const Name& name) {
    // Or the handles of a hundred thousand would pile up.
    const Napi::HandleScope scope(array.Env());
    array.Set(size++, stringOf(array.Env(), name));
  }

  Napi::Array array;
  uint32_t size = 0;
};

inline Napi::Array topViolatorsOf(Napi::Env env, Offenders& offenders) {
  const Offender* top[Offenders::kTop];
  const size_t count = offenders.topViolators(top);
  Napi::Array result = Napi::Array::New(env, count);
  for (size_t i = 0; i < count; ++i) {
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, top[i]->name));
    pair.Set(1u, static_cast<double>(top[i]->violations));
    result.Set(static_cast<uint32_t>(i), pair);
  }
  return result;
}

inline void setTally(Napi::Env env, Napi::Object& result, const Tally& tally) {
  Napi::Object verdicts = Napi::Object::New(env);
  verdicts.Set("allow", static_cast<double>(tally.allowed));
  verdicts.Set("delay", static_cast<double>(tally.delayed));
  verdicts.Set("disconnect", static_cast<double>(tally.disconnected));
  result.Set("verdicts", verdicts);
  result.Set("bansBegun", static_cast<double>(tally.bansBegun));
  result.Set("evictions", static_cast<double>(tally.evictions));
  result.Set("lossyEvictions", static_cast<double>(tally.lossyEvictions));
  result.Set("refusedNewcomers", static_cast<double>(tally.refusedNewcomers));
}

template <class Core>
Napi::Value statisticsOf(Napi::Env env, Core& core) {
  Offenders& offenders = core.offenders();
  Napi::Object result = Napi::Object::New(env);
  result.Set("tracked", static_cast<double>(core.tracked()));
  result.Set("peers", static_cast<double>(core.peers()));
  result.Set("totalViolations", static_cast<double>(offenders.totalViolations()));
  result.Set("topViolators", topViolatorsOf(env, offenders));
  result.Set("unnamedOffenders", static_cast<double>(offenders.unnamed()));
  result.Set("memoryBytes", static_cast<double>(core.memoryBytes()));
  setTally(env, result, core.tally());
  return result;
}

template <class Core>
Napi::Value bannedKeysOf(Napi::Env env, Core& core, double now) {
  NameList banned(env);
  const auto use = [&](const Name& name) { banned.push(name); };
  if (!core.offenders().bannedKeys(now, core.banDuration(), use)) throwNoMemory(env);
  return banned.array;
}

// { count, bans }: pairs of a key and the seconds its ban has left.
template <class Core>
Napi::Value longestBansOf(Napi::Env env, Core& core, double most, double now) {
  Napi::Object result = Napi::Object::New(env);
  Napi::Array bans = Napi::Array::New(env);
  const double banDuration = core.banDuration();
  const auto use = [&](const Name& name, double began) {
    const Napi::HandleScope scope(env);
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, name));
    pair.Set(1u, banDuration - elapsed(now, began));
    bans.Set(bans.Length(), pair);
  };
  size_t count = 0;
  if (!core.offenders().longestBans(most, now, banDuration, count, use)) throwNoMemory(env);
  result.Set("count", static_cast<double>(count));
  result.Set("bans", bans);
  return result;
}

// Of an offender: its violations, the seconds its ban has left (NaN: none), and those it has been
// idle for (infinity: unknown).
constexpr size_t kOffenceNumbers = 3;

// { keys, numbers }: the offenders in order.
template <class Core>
Napi::Value offendersOf(Napi::Env env, Core& core, double now) {
  Napi::Object result = Napi::Object::New(env);
  NameList keys(env);
  const size_t most = core.offenders().size() * kOffenceNumbers;
  Napi::Float64Array numbers = Napi::Float64Array::New(env, most);
  // In a thread that is being ended it cannot be made, and no exception is pending.
  if (numbers.IsEmpty()) return env.Undefined();
  double* next = numbers.Data();
  const double banDuration = core.banDuration();
  const auto use = [&](const Offender& offender, double began) {
    keys.push(offender.name);
    *next++ = static_cast<double>(offender.violations);
    *next++ = began == kNever ? std::nan("") : banDuration - elapsed(now, began);
    *next++ = core.idleSeconds(offender.fingerprint, now);
  };
  if (!core.offenders().inOrder(now, banDuration, use)) throwNoMemory(env);
  result.Set("keys", keys.array);
  result.Set("numbers", numbers);
  return result;
}

// Calls put(text, offence) for each, and returns how many it put back; an exception is pending
// where one found no memory.
template <class Put>
uint32_t restoreFrom(Napi::Env env, napi_value keys, const Napi::Value& numbers, Put&& put) {
  const auto array = numbers.As<Napi::Float64Array>();
  const auto count = static_cast<uint32_t>(array.ElementLength() / kOffenceNumbers);
  const double* next = array.Data();
  uint32_t restored = 0;
  for (uint32_t i = 0; i < count; ++i, next += kOffenceNumbers) {
    KeyText text;
    if (!readElement(env, keys, i, text)) return restored;
    const double left = next[1] == next[1] ? next[1] : 0;
    const Verdict verdict = put(text, Offence{static_cast<uint64_t>(next[0]), left, next[2]});
    if (verdict == Verdict::kNoMemory) {
      throwNoMemory(env);
      return restored;
    }
    if (verdict == Verdict::kAllowed) ++restored;
  }
  return restored;
}

}  // namespace relay_limiter
