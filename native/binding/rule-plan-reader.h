// Reads a RulePlan of lib/engine/rules.ts. The facade has compiled it; a plan that could make the
// limiter read other memory is a TypeError all the same.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdio>

#include "../limiters/rules/plan.h"
#include "arguments.h"

namespace relay_limiter {

class RulePlanReader {
 public:
  // `plansBefore` is the number of plans that this one replaces; 0 for the first plan.
  RulePlanReader(const Napi::Value& source, unsigned scopes, unsigned plansBefore)
      : env_(source.Env()), source_(source), plansBefore_(plansBefore) {
    plan.scopes = scopes;
  }

  // False if there is no memory or the plan is invalid; then an exception is pending.
  bool read() {
    if (!source_.IsObject()) return fail("plan");
    object_ = source_.As<Napi::Object>();
    plan.plans = countIn("plans", kMaxPlans);
    plan.actions = countIn("actions", kMaxActions);
    if (plan.plans == 0) return fail("plans");
    if (plan.actions == 0) return fail("actions");
    if (!plan.allocate()) {
      throwNoMemory(env_);
      return false;
    }
    const size_t rows = size_t{plan.plans} * plan.scopes;
    const size_t rules = size_t{plan.scopes} * kMaxRules;
    uint8_t flags[kMaxScopes * kMaxRules];
    const bool isRead = copy("applies", plan.applies.begin(), rows * plan.actions) &&
                        copy("rates", plan.rates.begin(), rows * kMaxRules) &&
                        copy("bursts", plan.bursts.begin(), rows * kMaxRules) &&
                        copy("warnBelow", plan.warnBelow.begin(), rows * kMaxRules) &&
                        copy("units", plan.units, rules) && copy("flags", flags, rules) &&
                        copy("ranks", plan.ranks, rules) &&
                        copy("slots", plan.slots, plan.scopes) &&
                        copy("added", added, plan.scopes) && copy("origins", origins, plan.plans);
    if (!isRead || !areValid() || !readBans()) return false;
    plan.finish(flags);
    return true;
  }

  RulePlan plan;
  uint16_t added[kMaxScopes] = {};
  uint16_t origins[kMaxPlans];

 private:
  // More actions than a program of 31 bits has room for are refused.
  static constexpr unsigned kMaxActions = 1u << 20;

  bool fail(const char* name) {
    if (env_.IsExceptionPending()) return false;
    // Not a std::string, which would link the standard library's exceptions.
    char message[80];
    std::snprintf(message, sizeof message, "the plan's %s must be as lib/engine/rules.ts describes",
                  name);
    Napi::TypeError::New(env_, message).ThrowAsJavaScriptException();
    return false;
  }

  double numberIn(const Napi::Object& object, const char* name) const {
    const Napi::Value value = object.Get(name);
    return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  }

  // 0 if it is not an integer from 1 to `most`.
  unsigned countIn(const char* name, unsigned most) const {
    const double number = numberIn(object_, name);
    return number >= 1 && number <= most && number == floorOf(number)
               ? static_cast<unsigned>(number)
               : 0;
  }

  static constexpr napi_typedarray_type typeOf(const uint8_t*) { return napi_uint8_array; }
  static constexpr napi_typedarray_type typeOf(const uint16_t*) { return napi_uint16_array; }
  static constexpr napi_typedarray_type typeOf(const double*) { return napi_float64_array; }

  template <class Number>
  bool copy(const char* name, Number* numbers, size_t count) {
    const Napi::Value value = object_.Get(name);
    if (!value.IsTypedArray()) return fail(name);
    const auto array = value.As<Napi::TypedArrayOf<Number>>();
    if (array.TypedArrayType() != typeOf(numbers) || array.ElementLength() != count)
      return fail(name);
    std::copy_n(array.Data(), count, numbers);
    return true;
  }

  bool areValid() {
    for (unsigned scope = 0; scope < plan.scopes; ++scope) {
      if (plan.slots[scope] > kMaxRules) return fail("slots");
      if (added[scope] >> kMaxRules != 0) return fail("added");
    }
    for (size_t i = 0; i < size_t{plan.programs()} * plan.scopes; ++i) {
      // Other bits would be slots that a record does not have.
      if (plan.applies[i] >> plan.slots[i % plan.scopes] != 0) return fail("applies");
    }
    for (unsigned i = 0; i < plan.scopes * kMaxRules; ++i) {
      if (plan.units[i] >= kMaxUnits) return fail("units");
    }
    for (unsigned i = 0; i < plan.plans && plansBefore_ > 0; ++i) {
      if (origins[i] >= plansBefore_) return fail("origins");
    }
    return true;
  }

  bool readBans() {
    const Napi::Value value = object_.Get("bans");
    if (!value.IsArray() || value.As<Napi::Array>().Length() != plan.scopes) return fail("bans");
    for (unsigned scope = 0; scope < plan.scopes; ++scope) {
      const Napi::Value policy = value.As<Napi::Array>().Get(scope);
      if (policy.IsUndefined()) continue;
      if (!policy.IsObject() || !readBan(policy.As<Napi::Object>(), plan.bans[scope]))
        return fail("bans");
    }
    return true;
  }

  bool readBan(const Napi::Object& source, BanPolicy& policy) {
    const Napi::Value steps = source.Get("seconds");
    if (!steps.IsArray() || steps.As<Napi::Array>().Length() == 0) return false;
    policy.steps = steps.As<Napi::Array>().Length();
    policy.seconds = NumberArray<double>(policy.steps);
    if (!policy.seconds) {
      throwNoMemory(env_);
      return false;
    }
    for (uint32_t i = 0; i < policy.steps; ++i) {
      const Napi::HandleScope scope(env_);
      const Napi::Value step = steps.As<Napi::Array>().Get(i);
      policy.seconds[i] = step.IsNumber() ? step.As<Napi::Number>().DoubleValue() : 0;
      if (!(policy.seconds[i] > 0)) return false;
    }
    policy.exists = true;
    policy.violations = numberIn(source, "violations");
    policy.withinSeconds = numberIn(source, "withinSeconds");
    policy.jitter = numberIn(source, "jitter");
    policy.forgetAfterSeconds = numberIn(source, "forgetAfterSeconds");
    return policy.violations > 0 && policy.withinSeconds > 0 && policy.jitter >= 0 &&
           policy.forgetAfterSeconds > 0;
  }

  const Napi::Env env_;
  const Napi::Value source_;
  const unsigned plansBefore_;
  Napi::Object object_;
};

}  // namespace relay_limiter
