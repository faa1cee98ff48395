// LeaseTableObject: a lease table as a JavaScript object.
#pragma once

#include "../limiters/clock.h"
#include "../limiters/lease-table.h"
#include "checks.h"
#include "core-object.h"

namespace relay_limiter {

class LeaseTableObject : public CoreObject<LeaseTableObject, LeaseTable> {
 public:
  using Self = LeaseTableObject;

  static Napi::Function define(Napi::Env env, Registry<Self>& registry) {
    return CoreObject::define(env, "LeaseTable", registry,
                              {
                                  InstanceMethod("set", &Self::set),
                                  InstanceMethod("tokens", &Self::tokens),
                                  InstanceMethod("delete", &Self::remove),
                                  InstanceMethod("total", &Self::total),
                              },
                              {{"spend", spend}, {"now", readNow}});
  }

  // `new LeaseTable(secret)`
  explicit LeaseTableObject(const Napi::CallbackInfo& info) : CoreObject(info, info[0]) {}

  // Reads the system's clock each time. The limiters' clock may repeat a reading that is some
  // microseconds old: a bucket only refills later with it, but a lease could be spent after its
  // end, so its tokens would be spent twice. The same holds for the time for which the machine
  // slept.
  static double now() noexcept { return secondsWithSleep(); }

 private:
  static napi_value readNow(napi_env env, napi_callback_info) noexcept {
    napi_value result = nullptr;
    napi_create_double(env, now(), &result);
    return result;
  }

  // spend(key)
  static napi_value spend(napi_env env, napi_callback_info info) noexcept {
    const KeyCall<Self> call(env, info);
    if (call.object == nullptr) return nullptr;
    LeaseTable& leases = call.object->core();
    const bool taken = leases.spend(call.key().fingerprint, call.cost(), call.now());
    return answerOf(env, taken ? Verdict::kAllowed : Verdict::kRefused);
  }

  // set(key, tokens, until)
  void set(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return;
    const double tokens = info[1].As<Napi::Number>().DoubleValue();
    const double until = info[2].As<Napi::Number>().DoubleValue();
    if (!core().set(text.key(secret()).fingerprint, tokens, until)) throwNoMemory(info.Env());
    reportExternalMemory(info.Env());
  }

  // tokens(key)
  Napi::Value tokens(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    return Napi::Number::New(info.Env(), core().tokens(text.key(secret()).fingerprint));
  }

  // delete(key)
  void remove(const Napi::CallbackInfo& info) {
    KeyText text;
    if (text.read(info.Env(), info[0])) core().remove(text.key(secret()).fingerprint);
    reportExternalMemory(info.Env());
  }

  // total(now)
  Napi::Value total(const Napi::CallbackInfo& info) {
    const double now = info[0].As<Napi::Number>().DoubleValue();
    return Napi::Number::New(info.Env(), core().total(now));
  }
};

}  // namespace relay_limiter
